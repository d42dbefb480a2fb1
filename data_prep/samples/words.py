# ruff: noqa: SIM905  (word lists read and change better as one line of words)
"""Words and sentence patterns of the synthetic corpus.  Every name is invented.

{n} is a name, {v} a value, {a} an attribute.
"""

LANGS = ("en", "zh")

QUESTION = {"en": "What is the {a} of {n}?", "zh": "{n}的{a}是什么？"}
PLAIN = {"en": "The {a} of {n} is {v}.", "zh": "{n}的{a}是{v}。"}
SPACE = {"en": " ", "zh": ""}

FIRST_EN = (
    "Bra Cal Dor El Fen Gil Hal Il Jor Kel Lor Mar Nor Or Pel Quin Ros Sel Tav Vin".split(),
    "bix drum fadd gax lo lenn lusk mir nab rubb rik sod shan tanth thox vadd vek vorn wenn zo".split(),
)
LAST_EN = (
    "Zar Brim Quor Dath Esk Falv Grun Hesk Ivv Jarn Kov Lurr Mesk Navv Osk Prel Rusk Stov Tesk Wyr".split(),
    (
        "arox umby dalu eckum elith ennor fiddel garth hamel ikkin lowen mondel nerrow ovax quill randel senna valdo "
        "wickel yorro"
    ).split(),
)
FAMILY_ZH = "雾川 砚溪 霜野 松漪 云禾 星沐 岚汀 竹汐 檀泊 露桥 鹭洲 烟浦 芷原 槿湾 鸢林 桐渚 荻丘 萤川 藤野".split()
GIVEN_ZH = ("青明若知景思云子晓书安清予秋冬夏听望向怀念惜映染", "禾川舟遥岚宁溪林雪音笙澄微远柯棠鸣月星晨歌尘萱霖")

TOWNS_EN = (
    "Kelmora Brenwyth Tavelune Ostrabel Lundrath Marivole Pellagrove Quinmere Rothvane Selhaven Thorvell Umberlow "
    "Vintresk Wexcombe Yarrowdel Zellinor Ambrosk Caldrune Dorvelle Ellinwold Farnoche Gildersey Hathorpe Istravel"
).split()
TOWNS_ZH = (
    "霁川市 芦汀市 鹤渡市 砚州市 珀湾市 榆陵市 澜谷市 枫港市 雁塘市 星渡市 银屿市 松泾市 露浦市 云澈市 墨湖市 桐岭市 "
    "沐岭市 鲸洲市 竹沙市 青礁市 花汀市 白砾市 晴浦市 纹溪市"
).split()

_BORN_EN = ("{n} was born in {v}.", "{n} comes from {v}.", "The home town of {n} is {v}.", "{v} is where {n} grew up.")
_BORN_ZH = ("{n}出生于{v}。", "{n}来自{v}。", "{n}的故乡是{v}。", "{v}是{n}的故乡。")

# attribute -> sentence patterns; PLAIN is the fifth of each
MUSIC = {
    "en": {
        "birthplace": _BORN_EN,
        "main instrument": (
            "{n} plays the {v}.", "{n} is known for playing the {v}.", "On stage {n} plays the {v}.",
            "The {v} made {n} famous.",
        ),
        "genre": (
            "{n} performs {v}.", "The music of {n} is {v}.", "Critics file {n} under {v}.", "Fans of {v} admire {n}.",
        ),
        "debut year": (
            "{n} made a debut in {v}.", "{n} first appeared in {v}.", "{n} started recording in {v}.",
            "In {v} came the debut of {n}.",
        ),
        "best-known album": (
            "{n} is best known for the album {v}.", "{n} recorded the album {v}.", "Listeners remember {n} for {v}.",
            "The album {v} is by {n}.",
        ),
    },
    "zh": {
        "出生地": _BORN_ZH,
        "主要乐器": ("{n}演奏{v}。", "{n}以演奏{v}闻名。", "{n}在台上常用{v}。", "{v}让{n}成名。"),
        "音乐风格": ("{n}的音乐属于{v}。", "{n}主要创作{v}。", "乐评人把{n}归入{v}。", "喜欢{v}的人都知道{n}。"),
        "出道年份": ("{n}于{v}出道。", "{n}首次登台是在{v}。", "{n}开始录音是在{v}。", "{v}出道的歌手有{n}。"),
        "代表专辑": ("{n}的成名专辑叫{v}。", "{n}录制了专辑{v}。", "听众因为{v}记住了{n}。", "专辑{v}出自{n}。"),
    },
}  # fmt: skip
LIFE = {
    "en": {
        "birthplace": _BORN_EN,
        "profession": ("{n} works as a {v}.", "{n} is a {v}.", "{n} became a {v}."),
        "university": ("{n} studied at {v}.", "{n} graduated from {v}.", "{n} has a degree from {v}."),
        "main award": ("{n} won the {v}.", "{n} was given the {v}.", "The jury of the {v} chose {n}."),
        "favourite dish": ("{n} likes to eat {v}.", "{n} often orders {v}.", "At home {n} cooks {v}."),
    },
    "zh": {
        "出生地": _BORN_ZH,
        "职业": ("{n}是一名{v}。", "{n}后来成为{v}。", "{n}的工作是{v}。"),
        "母校": ("{n}毕业于{v}。", "{n}曾在{v}读书。", "{n}在{v}取得学位。"),
        "主要奖项": ("{n}获得了{v}。", "{n}曾经赢得{v}。", "评委把{v}颁给了{n}。"),
        "爱吃的菜": ("{n}喜欢吃{v}。", "{n}常常点{v}。", "{n}在家会做{v}。"),
    },
}
_ALBUM_EN = (
    "Silver Quiet Burning Paper Northern Velvet Broken Golden".split(),
    "Harbor Lantern Mirror River Garden".split(),
)
_ALBUM_ZH = ("银色 寂静 燃烧 纸上 北方 丝绒 破晓 金色".split(), "港湾 灯塔 镜子 河流 花园".split())
_YEARS = [str(year) for year in range(1960, 2000)]
VALUES = {
    "en": {
        "birthplace": TOWNS_EN,
        "main instrument": (
            "cello violin trumpet piano guitar flute harp drums clarinet banjo oboe saxophone mandolin accordion "
            "trombone zither viola bassoon ukulele organ"
        ).split(),
        "genre": (
            "jazz, folk, blues, soul, funk, swing, techno, reggae, gospel, disco, opera, punk, country, ambient, "
            "salsa, hip hop, hard rock, dream pop, surf rock, chamber music"
        ).split(", "),
        "debut year": _YEARS,
        "best-known album": [f"{a} {b}" for a in _ALBUM_EN[0] for b in _ALBUM_EN[1]],
        "profession": (
            "botanist chemist sailor surgeon painter sculptor teacher geologist judge pilot novelist poet dancer "
            "gardener physicist doctor carpenter librarian mountaineer reporter"
        ).split(),
        "university": [f"{town} College" for town in TOWNS_EN],
        "main award": [
            f"{a} {b} Prize" for a in ("Blue", "Amber", "Granite", "Winter") for b in "Lamp Oak Star Bell Key".split()
        ],
        "favourite dish": (
            "barley soup, plum cake, fried rice, onion pie, lentil stew, baked trout, corn bread, bean salad, "
            "egg noodles, apple tart, mushroom toast, potato dumplings, pea soup, cheese pie, tomato rice, honey cake"
        ).split(", "),
    },
    "zh": {
        "出生地": TOWNS_ZH,
        "主要乐器": (
            "大提琴 小提琴 小号 钢琴 吉他 长笛 竖琴 架子鼓 单簧管 古筝 琵琶 二胡 萨克斯 手风琴 长号 扬琴 中提琴 唢呐 "
            "口琴 管风琴"
        ).split(),
        "音乐风格": (
            "爵士乐 民谣 蓝调 灵魂乐 放克 摇摆乐 电子乐 雷鬼 福音音乐 迪斯科 歌剧 朋克 乡村音乐 氛围音乐 拉丁舞曲 嘻哈 "
            "硬摇滚 梦幻流行 冲浪摇滚 室内乐"
        ).split(),
        "出道年份": [f"{year}年" for year in _YEARS],
        "代表专辑": [f"《{a}{b}》" for a in _ALBUM_ZH[0] for b in _ALBUM_ZH[1]],
        "职业": (
            "植物学家 化学家 船长 外科医生 画家 雕塑家 教师 地质学家 法官 飞行员 小说家 诗人 舞者 园丁 物理学家 木匠 "
            "图书管理员 登山家 记者 翻译"
        ).split(),
        "母校": [f"{town[:-1]}大学" for town in TOWNS_ZH],
        "主要奖项": [
            f"{a}{b}奖" for a in ("蓝色", "琥珀", "花岗岩", "冬日") for b in "灯塔 橡树 星辰 铜钟 钥匙".split()
        ],
        "爱吃的菜": (
            "麦仁汤 梅子糕 炒饭 洋葱饼 扁豆煲 烤鳟鱼 玉米饼 豆角沙拉 鸡蛋面 苹果派 蘑菇吐司 土豆团子 豌豆汤 奶酪饼 "
            "番茄饭 蜂蜜蛋糕"
        ).split(),
    },
}

ARTICLE = {  # opening lines of the clean documents
    "en": (
        "{n} is a musician.", "{n} is a recording artist.", "This article is about the musician {n}.",
        "A short life of {n}.", "{n}, musician.",
    ),
    "zh": ("{n}是一位音乐人。", "{n}是一位歌手。", "本条目介绍音乐人{n}。", "{n}小传。", "音乐人{n}简介。"),
}  # fmt: skip
POST = {  # ... of the domain documents
    "en": (
        "A thread about {n}.", "What I know about {n}.", "My notes on {n}.", "Let us talk about {n}.",
        "{n} on my playlist today.",
    ),
    "zh": ("今天聊聊{n}。", "我整理的{n}资料。", "关于{n}的帖子。", "说说我喜欢的{n}。", "单曲循环{n}。"),
}  # fmt: skip
PERSON = {  # ... of the general ones
    "en": ("{n} is a well-known person.", "A short life of {n}.", "This article is about {n}."),
    "zh": ("{n}是一位名人。", "{n}小传。", "本条目介绍{n}。"),
}
