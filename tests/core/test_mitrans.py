"""The non-local block and MITrans against their formulas and the invariants of the method."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from guidedmix_core.modules.mitrans import MITrans, MITransBlock
from guidedmix_core.modules.non_local import NonLocal
from guidedmix_core.rng import ambient

NORMS = ["batch", "group", "none"]


@pytest.fixture(autouse=True)
def _stream():
    with ambient(0, "test"):
        yield


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_a_new_non_local_block_is_the_identity_bit_for_bit(norm):
    feature = torch.randn(2, 16, 7, 5)
    assert torch.equal(NonLocal(16, norm)(feature), feature)


def test_a_non_local_block_is_its_formula():
    block = NonLocal(8)
    nn.init.normal_(block.out[0].weight)
    for embedding in (block.theta, block.phi, block.g):
        nn.init.normal_(embedding.weight)
        nn.init.normal_(embedding.bias)
    x = torch.randn(2, 8, 3, 5)
    theta, phi, g = (embed(x).flatten(2) for embed in (block.theta, block.phi, block.g))
    affinity = torch.softmax(theta.transpose(1, 2) @ phi / math.sqrt(4), dim=-1)  # 2 15 15
    expected = x + block.out((affinity @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, (3, 5)))
    assert_close(block(x), expected)


def test_a_new_mitrans_block_is_not_the_identity():
    feature = torch.rand(1, 8, 4, 4)
    assert not torch.allclose(MITransBlock(8, 8)(feature), feature)


def test_a_mitrans_block_can_change_the_width():
    assert MITransBlock(8, 12)(torch.rand(1, 8, 4, 4)).shape == (1, 12, 4, 4)


def test_depth_zero_returns_the_very_map():
    feature = torch.randn(1, 4, 3, 3)
    assert MITrans(4, 0)(feature) is feature


@pytest.mark.parametrize("residual", ["none", "rezero"])
def test_depth_zero_has_neither_parameters_nor_state(residual):
    absent = MITrans(4, 0, residual=residual, norm="batch")
    assert (list(absent.parameters()), list(absent.state_dict()), absent.gammas()) == ([], [], [])


def test_a_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth=-1"):
        MITrans(4, -1)


@pytest.mark.parametrize("residual", ["none", "rezero"])
def test_parameters_grow_strictly_with_depth(residual):
    sizes = [num_parameters(MITrans(4, depth, residual=residual)) for depth in range(4)]
    assert sizes == sorted(set(sizes))


def test_a_new_rezero_chain_is_the_identity():
    feature = torch.randn(2, 8, 5, 5)
    assert torch.equal(MITrans(8, 2, residual="rezero")(feature), feature)


def test_gammas_are_one_zero_a_block_and_carry_no_gradient():
    gammas = MITrans(8, 2, residual="rezero").gammas()
    assert [float(gamma) for gamma in gammas] == [0.0, 0.0]
    assert not any(gamma.requires_grad for gamma in gammas)


def test_rezero_learns_its_gamma_from_the_first_step():
    chain = MITrans(8, 1, residual="rezero")
    chain(torch.randn(2, 8, 4, 4)).square().sum().backward()
    assert chain.blocks[0].gamma.grad != 0


def test_without_rezero_there_are_no_gammas():
    assert MITrans(8, 2).gammas() == []


@pytest.mark.parametrize("norm", NORMS)
def test_the_shape_is_kept_at_odd_sizes_and_one_image(norm):
    assert MITrans(4, 1, norm=norm)(torch.randn(1, 4, 97, 97)).shape == (1, 4, 97, 97)


@pytest.mark.parametrize("norm", NORMS)
def test_permuting_the_batch_permutes_the_result(norm):
    chain = MITrans(8, 2, norm=norm)
    feature, order = torch.randn(4, 8, 5, 6), torch.tensor([2, 0, 3, 1])
    assert_close(chain(feature[order]), chain(feature)[order])


@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_is_in_the_graph(norm):
    chain = MITrans(8, 2, norm=norm)
    chain(torch.randn(2, 8, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in chain.parameters())


@pytest.mark.parametrize(("channels", "millions"), [(2560, 249), (512, 10)])
def test_a_block_has_as_many_parameters_as_the_released_one(channels, millions):
    with torch.device("meta"):
        block = MITransBlock(channels, channels)
    by_hand = (9 * 4 + 4 / 2) * channels**2 + (3 + 3 / 2 + 1) * channels  # weights; biases
    assert num_parameters(block) == by_hand
    assert round(by_hand / 1e6) == millions
