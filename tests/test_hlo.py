"""The reader of compiled programs, on programs written by hand."""

import jax
import jax.numpy as jnp
import pytest

from mucpt_jax.planning import hlo

# A loop of 3 around a loop of 5.  The inner body holds the product [4, 8] x [8, 16] in a fusion and a sum over all 8
# devices; the outer one a gather; the entry a tuple sum, a pair of start and done, and a conditional.
NESTED = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%add.1 (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[] parameter(0)
  %y.1 = f32[] parameter(1)
  ROOT %add.9 = f32[] add(%x.1, %y.1)
}

%fused_computation.2 (param_0.3: bf16[4,8], param_1.4: bf16[8,16]) -> f32[4,16] {
  %param_0.3 = bf16[4,8]{1,0} parameter(0)
  %param_1.4 = bf16[8,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,16]{1,0} dot(%param_0.3, %param_1.4), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%inner_body (p.1: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %p.1 = (s32[], f32[4,16]{1,0}) parameter(0)
  %product = f32[4,16]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused_computation.2
  %all-reduce.1 = f32[4,16]{1,0} all-reduce(%product), channel_id=1, replica_groups={}, to_apply=%add.1
  ROOT %t.1 = (s32[], f32[4,16]{1,0}) tuple(%i, %all-reduce.1)
}

%inner_condition (p.2: (s32[], f32[4,16])) -> pred[] {
  ROOT %less = pred[] constant(true)
}

%outer_body (p.3: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %p.3 = (s32[], f32[4,16]{1,0}) parameter(0)
  %all-gather.7 = bf16[8,16]{1,0} all-gather(%part), replica_groups=[4,2]<=[8], dimensions={0}, metadata={op_name="jit(step)/while/gather"}
  ROOT %while.2 = (s32[], f32[4,16]{1,0}) while(%p.3), condition=%inner_condition, body=%inner_body, backend_config={"known_induction_variable":{"tuple_index":"0"},"known_trip_count":{"n":"5"}}
}

%branch_a (q.1: f32[4,8]) -> f32[4,4] {
  %q.1 = f32[4,8]{1,0} parameter(0)
  ROOT %dot.2 = f32[4,4]{1,0} dot(%q.1, %q.1), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

%branch_b (q.2: f32[4,8]) -> f32[4,4] {
  ROOT %zero = f32[4,4]{1,0} constant(0)
}

ENTRY %main.5_spmd (arg.1: f32[4,8]) -> f32[4,16] {
  %arg.1 = f32[4,8]{1,0} parameter(0)
  %while.1 = (s32[], /*index=5*/f32[4,16]{1,0}) while(%init), condition=%inner_condition, body=%outer_body, backend_config={"known_trip_count":{"n":"3"}}
  %choice = f32[4,4]{1,0} conditional(%flag, %arg.1, %arg.1), branch_computations={%branch_a, %branch_b}
  %all-reduce.2 = (f32[5]{0}, s32[], /*index=5*/bf16[3,2]{1,0}) all-reduce(%x, %y, /*index=5*/%z), replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%add.1
  %lonely = f32[9]{0} all-reduce(%w), replica_groups=[8,1]<=[8], to_apply=%add.1
  %start = (f32[1,10]{1,0}, f32[8,10]{1,0}) all-gather-start(%u), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  %done = f32[8,10]{1,0} all-gather-done(%start)
  ROOT %out = f32[4,16]{1,0} get-tuple-element(%while.1), index=1
}
"""  # noqa: E501


def found(kind: str) -> list:
    """The most often run first."""
    return sorted((c for c in hlo.count(NESTED).collectives if c.kind == kind), key=lambda c: -c.executed)


def test_loops_multiply_what_they_hold():
    summed, gathered = found("all-reduce")[0], found("all-gather")[0]
    assert (summed.executed, summed.bytes, summed.group) == (3 * 5, 4 * 16 * 4, 8)
    assert (gathered.executed, gathered.bytes, gathered.group, len(gathered.members)) == (3, 8 * 16 * 2, 2, 2)
    assert gathered.name == "jit(step)/while/gather"


def test_a_tuple_sum_counts_all_its_arrays_in_spite_of_comments():
    both = found("all-reduce")
    assert len(both) == 2  # the one of a group of one device sends nothing
    assert both[1].bytes == 5 * 4 + 4 + 6 * 2
    # [4,2] transposed: the first of two groups is 0, 2, 4, 6.
    assert (both[1].group, both[1].members[-1] - both[1].members[0], both[1].executed) == (4, 6, 1)


def test_of_start_and_done_the_result_counts_once_with_the_groups_of_start():
    paired = found("all-gather")[1]
    assert (paired.bytes, paired.executed, paired.group) == (8 * 10 * 4, 1, 8)


def test_products_count_two_flops_for_each_multiplication():
    assert hlo.count(NESTED).flops == 15 * 2 * (4 * 8 * 16) + 2 * (4 * 8 * 4)
    assert hlo.count(NESTED).loops_unknown == 0


def test_a_loop_of_unknown_length_is_told():
    assert hlo.count(NESTED.replace('"known_trip_count":{"n":"5"}', "")).loops_unknown == 1


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("replica_groups={{0,3},{1,4},{2,5}}, dimensions={0}", [0, 3]),
        ("replica_groups=[2,4]<=[8], dimensions={0}", [0, 1, 2, 3]),
        ("replica_groups=[4,2]<=[2,4]T(1,0), use_global", [0, 4]),
        ("replica_groups=mesh['fsdp'=4,'tensor'=2] {'fsdp'}, use_global", [0, 2, 4, 6]),
        ("replica_groups=mesh['a'=2,'b'=2,'c'=2] {'a','c'}, use_global", [0, 1, 4, 5]),
        ("replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}, use_global", [0, 1, 2, 3]),
        ("channel_id=3, source_target_pairs={{0,1},{1,2},{7,0}}", [7, 0]),
        ("replica_groups={}, to_apply=%add", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_groups_of_devices_in_all_notations(text, group):
    assert hlo.first_group(text, 8) == group


def test_agrees_with_a_program_that_this_jax_compiles():
    def step(x, w):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length=7)[0]

    text = jax.jit(step).lower(jnp.ones((16, 32)), jnp.ones((32, 32))).compile().as_text()
    assert hlo.count(text).flops == 7 * 2 * 16 * 32 * 32


# As jax 0.10.2 wrote it for Qwen2.5-32B on fsdp=64 tensor=4, and jax 0.12.0 for the same.
LINE_0_10 = (
    "W1122 07:46:04.425137   20587 spmd_partitioner.cc:656] [SPMD] Involuntary full rematerialization. The compiler "
    "cannot go from sharding {devices=[1,1,256]<=[256]} to {devices=[64,1,1,4]<=[256] last_tile_dim_replicate} "
    "efficiently for HLO operation %gather = bf16[256,4096,20]{2,1,0} gather(%fake_parameter.0, %all-gather), "
    "offset_dims={2}, collapsed_slice_dims={0}, start_index_map={0}, index_vector_dim=2, slice_sizes={1,20}, "
    "sharding={devices=[1,1,256]<=[256]}. As the last resort, SPMD will replicate the tensor and then partition it to "
    "obtain the target sharding, which is inefficient."
)
LINE_0_12 = (
    "W1122 07:44:56.164548   18758 spmd_partitioner.cc:666] [SPMD] Involuntary full rematerialization. The compiler "
    "cannot go from sharding {mesh['replica'=1,'fsdp'=64,'context'=1,'tensor'=4], [{}, {}, {'fsdp', 'tensor'}]} to "
    "{mesh['replica'=1,'fsdp'=64,'context'=1,'tensor'=4], [{'fsdp'}, {}, {}]} efficiently for HLO operation %gather = "
    "bf16[256,4096,20]{2,1,0} gather(%fake_parameter.0, %all-gather), offset_dims={2}, "
    'slice_sizes={1,20}, metadata={op_name="jit(train_step)/gather"}. As the last resort, SPMD will replicate.'
)


@pytest.mark.parametrize(("line", "name"), [(LINE_0_10, ""), (LINE_0_12, "jit(train_step)/gather")])
def test_reads_the_compilers_rematerialisation_warnings(line, name):
    (warning,) = hlo.rematerialised(f"W1122 another warning\n{line}\n")
    assert (warning["tensor"], warning["shape"], warning["op_name"]) == ("gather", "bf16[256,4096,20]", name)
    assert "256" in warning["from"] or "'fsdp', 'tensor'" in warning["from"]
    assert warning["to"].startswith("{")
