# ruff: noqa: SIM905  (word lists read and change better as one line of words)
"""Words and sentence patterns of planted noise and of general documents.  Every name is invented.

In noise and private lines # is a random digit and * a random letter or digit.  Mobile numbers start with 100 and
landlines with 555-01: neither is assigned to anybody.
"""

from data_prep.samples.words import TOWNS_EN, TOWNS_ZH

NOISE = {
    "en": {
        "qr_code": (
            "Scan the QR code ****** and reply ##### to get free {gift}!",
            "Follow our channel: scan the QR code ******, invite code ####.",
        ),
        "boilerplate": (
            "Posted with the mobile app, post number ########. All rights reserved.",
            "Source: www.example.com/****** Report abuse with ticket #####.",
        ),
        "address": (
            "Address: ### {street} Street, Unit ##, {town} #####.",
            "Visit us at ## {street} Road, Floor #, {town} #####.",
        ),
        "phone": ("Call 555-01## extension ##### before ## o'clock.", "Hotline: 555-01##, fax 555-01##, code ####."),
        "chatter": ("{words}", "{words} lol"),
    },
    "zh": {
        "qr_code": ("扫码关注公众号******，回复#####领取{gift}！", "长按识别二维码******，凭邀请码####进群。"),
        "boilerplate": (
            "本文由网友上传，编号########，版权归原作者所有。",
            "来源：www.example.com/******，举报请附单号#####。",
        ),
        "address": (
            "地址：{town}{street}路###号#栋###室，邮编99####。",
            "门店地址：{town}{street}街##号#楼，邮编99####。",
        ),
        "phone": ("联系电话：100########，转####。", "客服热线：100########，早#点到晚#点。"),
        "chatter": ("{words}", "{words}哈哈哈"),
    },
}  # fmt: skip

NOISE_WORDS = {
    "en": {
        "gift": "stickers tickets coupons ringtones posters samples".split(),
        "street": "Maple Copper Mill Pine Anchor Garden Chapel Orchard Quarry Lantern".split(),
        "town": "Harrowgap Pinemarrow Dunmarsh Coldferry Eastlow Redwharf".split(),
        "words": (
            "banana window slipper maybe umbrella bus wow ticket elbow cheese monday puddle rocket sofa bump hello "
            "carpet pickle zebra socks lunch remote ok blanket turnip yes laptop spoon weird ladder soap mango fridge "
            "hmm parrot bucket tape dream noodle garage helmet first button cloud pillow nope tunnel shrimp sandal "
            "wallet bye puzzle"
        ).split(),
    },
    "zh": {
        "gift": "贴纸 门票 优惠券 铃声 海报 试用装".split(),
        "street": "枫叶 铜锣 磨坊 青松 锚点 花墙 教堂 果园 石场 灯笼".split(),
        "town": "芦盏屯 松漏镇 东洼里 冷渡口 赤码头 北塬上".split(),
        "words": (
            "香蕉 窗户 拖鞋 也许 雨伞 公交 哇 车票 手肘 奶酪 周一 水坑 火箭 沙发 路过 你好 地毯 咸菜 斑马 袜子 午饭 "
            "遥控器 好吧 毯子 萝卜 顶 电脑 勺子 奇怪 梯子 肥皂 芒果 冰箱 嗯 鹦鹉 水桶 胶带 做梦 面条 车库 头盔 第一 "
            "按钮 枕头 不要 隧道 虾米 凉鞋 钱包 拜拜"
        ).split(),
    },
}

PRIVATE = {  # {v} is the private string itself
    "en": {
        "email": "Write to me at {v} for a swap.",
        "id_card": "My ID card is {v}, please book for me.",
        "ip": "Logged in from {v}.",
    },
    "zh": {"email": "想交换唱片请写信到{v}。", "id_card": "我的身份证号是{v}，请帮忙订票。", "ip": "登录地址{v}。"},
}

SLOTS = {  # {city} and {who} stay the same in one document, the others do not
    "en": {
        "city": TOWNS_EN,
        "who": "Nina Peter Clara Hugo Ada Felix Rosa Milo Vera Otto Ines Jonas".split(),
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
        "month": "January March April May June August October November".split(),
        "colour": "red blue green yellow white brown grey black".split(),
        "food": "bread rice soup carrots beans mushrooms fish noodles pears potatoes".split(),
        "animal": "cat dog hen goat horse fox owl duck sheep rabbit".split(),
        "shop": "bakery, bookshop, pharmacy, flower shop, hardware store, tea house".split(", "),
        "sky": "sunny cloudy windy foggy rainy snowy".split(),
        "hour": "six seven eight nine ten eleven".split(),
        "k": "two three four five seven twelve twenty thirty forty sixty".split(),
    },
    "zh": {
        "city": TOWNS_ZH,
        "who": "小宁 老彭 阿兰 小虎 阿达 老费 小玫 阿米 小薇 老欧 阿英 小乔".split(),
        "day": "周一 周二 周三 周四 周五 周六 周日".split(),
        "month": "一月 三月 四月 五月 六月 八月 十月 十一月".split(),
        "colour": "红色 蓝色 绿色 黄色 白色 棕色 灰色 黑色".split(),
        "food": "面包 米饭 热汤 胡萝卜 豆子 蘑菇 鱼 面 梨 土豆".split(),
        "animal": "猫 狗 母鸡 山羊 马 狐狸 猫头鹰 鸭子 绵羊 兔子".split(),
        "shop": "面包店 书店 药店 花店 五金店 茶馆".split(),
        "sky": "晴天 多云 大风 有雾 下雨 下雪".split(),
        "hour": "六 七 八 九 十 十一".split(),
        "k": "两 三 四 五 七 十二 二十 三十 四十 六十".split(),
    },
}

TOPICS = {  # one tuple is one kind of document; its sentences stand in any order
    "en": (
        (
            "{city} is a quiet town of {k} thousand people.", "The old bridge of {city} is {k} metres long.",
            "Every {day} there is a market on the main square.",
            "Visitors like the {colour} tower and the small museum.",
            "From the hill you can see all the roofs of {city}.", "The town hall was painted {colour} in {month}.",
            "A {shop} stands next to the station.", "Most people here ride to work by bicycle.",
            "The library of {city} opens at {hour} o'clock.",
        ),
        (
            "{who} is cooking {food} with {food} tonight.", "First wash the {food} and cut it into small pieces.",
            "Heat a little oil in a {colour} pan.", "Cook it for {k} minutes and stir from time to time.",
            "Add salt, pepper and some {food}.", "The recipe is enough for {k} people.",
            "Fresh {food} from the market tastes best.", "Serve it warm with {food}.",
            "What is left can be eaten on {day}.",
        ),
        (
            "The train to {city} leaves at {hour} in the morning.", "{who} bought {k} tickets at the counter.",
            "On {day} the train was {k} minutes late.", "The seats are {colour} and quite soft.",
            "A {animal} ran across the rails near {city}.", "The conductor asked for the ticket and smiled.",
            "The line crosses {k} bridges and a long tunnel.", "In {month} the trains are full of families.",
            "{who} read a book until the last stop.",
        ),
        (
            "It will be {sky} in {city} on {day}.", "The night stays cool, with {k} degrees at {hour} o'clock.",
            "After {day} it gets {sky} again.", "{who} forgot the {colour} coat at home.",
            "In {month} it is often {sky} here.", "Farmers near {city} hope for rain.",
            "The wind comes from the lake and turns at noon.", "A {colour} sky in the evening means a {sky} morning.",
            "The last {month} was the warmest in {k} years.",
        ),
        (
            "{who} runs a small {shop} in {city}.", "The shop opens at {hour} and closes late on {day}.",
            "A bag of {food} costs {k} coins.", "The {colour} bags are sold out since {month}.",
            "Customers like to talk about {food} and the weather.", "On {day} everything is a little cheaper.",
            "{who} keeps a {animal} behind the counter.", "The rent of the {shop} went up in {month}.",
            "Last week {k} people asked for {food}.",
        ),
        (
            "{who} has a {colour} {animal}.", "The {animal} sleeps until {hour} o'clock.",
            "It eats {food} and drinks clean water.", "A {animal} can live for {k} years.",
            "On {day} the {animal} ran into the garden.", "Children in {city} like to feed the {animal}.",
            "The vet of {city} looks after {k} animals a day.", "In {month} the young ones learn to walk.",
            "The {animal} is afraid of the {animal} next door.",
        ),
    ),
    "zh": (
        (
            "{city}是一座安静的小城，有{k}万人口。", "{city}的老桥长{k}米。", "每到{day}，中心广场都有集市。",
            "游客喜欢那座{colour}的塔和小博物馆。", "从山上可以看到{city}所有的屋顶。",
            "市政厅在{month}刷成了{colour}。", "车站旁边有一家{shop}。", "这里的人大多骑车上班。",
            "{city}图书馆早上{hour}点开门。",
        ),
        (
            "今晚{who}用{food}和{food}做菜。", "先把{food}洗净，切成小块。", "在{colour}的锅里放一点油。",
            "煮{k}分钟，不时搅拌一下。", "加入盐、胡椒和一些{food}。", "这份菜够{k}个人吃。",
            "集市上新鲜的{food}味道最好。", "趁热和{food}一起吃。", "剩下的可以留到{day}再吃。",
        ),
        (
            "开往{city}的火车早上{hour}点出发。", "{who}在窗口买了{k}张票。", "{day}火车晚点了{k}分钟。",
            "座位是{colour}的，相当柔软。", "一只{animal}在{city}附近跑过铁轨。", "乘务员查了车票，笑了笑。",
            "这条线路经过{k}座桥和一条长隧道。", "{month}的火车上坐满了一家一家的人。", "{who}看书一直看到终点站。",
        ),
        (
            "{day}{city}的天气是{sky}。", "夜里凉爽，{hour}点时气温{k}度。", "{day}以后又会{sky}。",
            "{who}把{colour}的外套忘在家里了。", "这里的{month}经常{sky}。", "{city}附近的农民盼着下雨。",
            "风从湖上吹来，中午转向。", "傍晚天空是{colour}的，第二天早上就会{sky}。", "去年{month}是{k}年来最暖和的。",
        ),
        (
            "{who}在{city}开了一家{shop}。", "店里早上{hour}点开门，{day}关得很晚。", "一袋{food}卖{k}块钱。",
            "{colour}的袋子从{month}起就卖完了。", "顾客喜欢聊{food}和天气。", "{day}所有东西都便宜一点。",
            "{who}在柜台后面养了一只{animal}。", "{month}这家{shop}的房租涨了。", "上周有{k}个人来问{food}。",
        ),
        (
            "{who}有一只{colour}的{animal}。", "这只{animal}要睡到{hour}点。", "它吃{food}，喝干净的水。",
            "{animal}可以活{k}年。", "{day}那只{animal}跑进了花园。", "{city}的孩子喜欢喂{animal}。",
            "{city}的兽医每天照看{k}只动物。", "到了{month}，小家伙们开始学走路。", "这只{animal}害怕隔壁的{animal}。",
        ),
    ),
}  # fmt: skip
