import os
import subprocess
import sys

import pytest

from mucpt_jax.run import runtime


def test_every_gpu_flag_is_known_to_the_installed_jaxlib():
    # jaxlib for CPUs holds XLA's options for GPUs too, and ends the process at one that it does not know.
    def loads(flags: str) -> subprocess.CompletedProcess:
        env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        code = "import jax; jax.devices()"
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    env = {"JAX_PLATFORMS": "cuda"}
    runtime.set_xla_flags(env)
    found = loads(env["XLA_FLAGS"])
    assert found.returncode == 0, found.stderr[-2000:]
    assert "Unknown flag" in loads("--xla_gpu_no_such_flag=true").stderr


@pytest.mark.parametrize(("platform", "kind"), [("cuda,cpu", "gpu"), ("tpu", "tpu"), ("cpu", "cpu"), ("rocm", "gpu")])
def test_JAX_PLATFORMS_decides_which_flags_are_set(platform, kind):
    env = {"JAX_PLATFORMS": platform}
    told = runtime.set_xla_flags(env)
    assert runtime.accelerator(env) == kind and kind in told
    ours = runtime.VARIABLES[kind][1] if kind in runtime.VARIABLES else {}
    set_now = env.get("XLA_FLAGS", "") + env.get("LIBTPU_INIT_ARGS", "")
    assert set_now.split() == [f"--{name}={value}" for name, value in ours.items()]


def test_flags_of_the_user_win_and_come_last():
    mine = "--xla_gpu_enable_triton_gemm=true --xla_dump_to=here"
    env = {"JAX_PLATFORMS": "cuda", "XLA_FLAGS": mine}
    told = runtime.set_xla_flags(env)
    assert env["XLA_FLAGS"].endswith(mine) and env["XLA_FLAGS"] in told
    assert env["XLA_FLAGS"].count("triton_gemm") == 1
    again = env["XLA_FLAGS"]
    runtime.set_xla_flags(env)
    assert env["XLA_FLAGS"] == again


@pytest.mark.parametrize("extra", [{"XLA_FLAGS": "flags.txt"}, {"MUCPT_XLA_FLAGS": "off"}])
def test_a_flag_file_and_the_switch_keep_ours_out(extra):
    env = {"JAX_PLATFORMS": "cuda"} | extra
    runtime.set_xla_flags(env)
    assert env.get("XLA_FLAGS") == extra.get("XLA_FLAGS")
