"""U2PL's contrast: which pixel plays which part, and what the term is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from guidedmix_core.contrast import Contrast, Parts, contrastive_loss, parts, remember
from guidedmix_core.errors import ConfigError
from guidedmix_core.memory import ClassMemory
from guidedmix_core.rng import At, generator
from tests.runs import small_run

AT = At(0, 3, 10)
RULE = Contrast(queries=4, negatives=3, low_rank=2, high_rank=4)
K, D = 5, 6


def pixels(*flags: int) -> Tensor:
    return torch.tensor(flags, dtype=torch.bool)


def some_rows(key: str, count: int = 20) -> Tensor:
    return torch.randn(count, D, generator=generator("test", key))


def full_memory(key: str = "memory", classes: int = K) -> ClassMemory:
    memory = ClassMemory([16] * classes, D)
    keys = torch.randn(classes, 16, D, generator=generator("test", key))
    memory.store(F.normalize(keys, dim=2), torch.ones(classes, 16, dtype=torch.bool))
    return memory


def each_of_its_class(label: Tensor) -> Parts:
    """Every pixel is sure of its class, and an anchor."""
    own = label == torch.arange(K).unsqueeze(1)
    return Parts(own, own.clone(), torch.zeros_like(own))


# Two labeled and three unlabeled pixels; the teacher ranks the classes 0, 1, 2, 3, 4 for each but the last.
LABEL = torch.tensor([1, 255, 0, 0, 4])
PROBABILITY = torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]] * 4 + [[0.05, 0.1, 0.15, 0.2, 0.5]]).T
LABELED = pixels(1, 1, 0, 0, 0)
SURE, DOUBTFUL = pixels(1, 0, 1, 0, 0), pixels(1, 0, 0, 1, 1)


def roles(**rule: object) -> Parts:
    changed = RULE.model_copy(update=rule)
    return parts(LABEL, PROBABILITY, SURE, DOUBTFUL, LABELED, changed)


def test_centers_are_sure_pixels_of_their_class() -> None:
    assert roles().center.nonzero().tolist() == [[0, 2], [1, 0]]


def test_anchors_are_those_the_teacher_gives_enough() -> None:
    assert roles(anchor_probability=0.3).anchor.nonzero().tolist() == [[0, 2]]
    assert roles(anchor_probability=0.1).anchor.nonzero().tolist() == [[0, 2], [1, 0]]


def test_negatives_of_unlabeled_pixels_have_the_late_ranks() -> None:
    negative = roles().negative
    assert negative[:, 2].tolist() == [False] * 5
    assert negative[:, 3].tolist() == [False, False, True, True, False]
    assert negative[:, 4].tolist() == [False, True, True, False, False]


def test_negatives_of_labeled_pixels_are_wrong_classes_of_the_early_ranks() -> None:
    negative = roles().negative
    assert negative[:, 0].tolist() == [True, False, False, False, False]
    assert negative[:, 1].tolist() == [False] * 5


def test_released_negatives_have_the_class_as_their_label() -> None:
    label = LABEL.clone()
    label[4] = 2
    negative = parts(label, PROBABILITY, SURE, DOUBTFUL, LABELED, RULE.model_copy(update={"rule": "released"})).negative
    assert negative.nonzero().tolist() == [[2, 4]]


def test_the_term_is_the_formula() -> None:
    rule = RULE.model_copy(update={"queries": 3, "negatives": 1})
    label = torch.arange(20) % 2
    rep, teacher = some_rows("rep"), some_rows("teacher")
    memory = ClassMemory([1] * K, D)
    keys = F.normalize(some_rows("keys", K), dim=1).unsqueeze(1)
    memory.store(keys, torch.ones(K, 1, dtype=torch.bool))
    one_anchor = each_of_its_class(label)
    one_anchor.anchor[:] = False
    one_anchor.anchor[0, 4] = one_anchor.anchor[1, 7] = True
    expected = []
    for k, pixel in ((0, 4), (1, 7)):
        near = F.cosine_similarity(rep[pixel], teacher[label == k].mean(0), dim=0)
        far = F.cosine_similarity(rep[pixel], keys[k, 0], dim=0)
        expected.append(F.cross_entropy(torch.stack([near, far]).unsqueeze(0) / 0.5, torch.tensor([0])))
    loss, contrasted = contrastive_loss(rep, teacher, one_anchor, memory, rule, AT)
    assert_close(loss, torch.stack(expected).mean())
    assert contrasted == 2


def test_every_anchor_can_be_drawn_and_nothing_else() -> None:
    rep = some_rows("rep").requires_grad_()
    who = each_of_its_class(torch.arange(20) % 4)
    who.anchor[:, 12:] = False
    loss, _ = contrastive_loss(
        rep, some_rows("teacher"), who, full_memory(), RULE.model_copy(update={"queries": 200}), AT
    )
    loss.backward()
    assert rep.grad is not None
    assert rep.grad.abs().amax(1).gt(0).tolist() == [True] * 12 + [False] * 8


@pytest.mark.parametrize(("rule", "is_contrasted"), [("paper", True), ("released", False)])
def test_a_class_alone_is_contrasted_by_the_paper_and_not_by_the_released_code(rule: str, is_contrasted: bool) -> None:
    rep, who = some_rows("rep").requires_grad_(), each_of_its_class(torch.zeros(20, dtype=torch.long))
    changed = RULE.model_copy(update={"rule": rule})
    loss, contrasted = contrastive_loss(rep, some_rows("teacher"), who, full_memory(), changed, AT)
    loss.backward()
    assert rep.grad is not None
    assert (loss > 0, contrasted == 1, rep.grad.any()) == (is_contrasted,) * 3


def test_a_class_without_anchors_or_negatives_adds_exactly_0_and_is_connected() -> None:
    rep, who = some_rows("rep").requires_grad_(), each_of_its_class(torch.arange(20) % K)
    without_anchors = Parts(who.center, torch.zeros_like(who.anchor), who.negative)
    for parts_, memory in ((who, ClassMemory([16] * K, D)), (without_anchors, full_memory())):
        loss, contrasted = contrastive_loss(rep, some_rows("teacher"), parts_, memory, RULE, AT)
        (gradient,) = torch.autograd.grad(loss, rep)
        assert (loss, contrasted) == (0, 0)
        assert gradient.eq(0).all()


def test_the_mean_is_over_the_classes_that_occur() -> None:
    rep, teacher, memory = some_rows("rep"), some_rows("teacher"), full_memory()
    who = each_of_its_class(torch.arange(20) % 4)
    both, _ = contrastive_loss(rep, teacher, who, memory, RULE, AT)
    memory.written[1] = 0
    three, contrasted = contrastive_loss(rep, teacher, who, memory, RULE, AT)
    assert contrasted == 3
    assert three < both


def test_in_the_released_rule_the_first_classes_meet_the_memories_of_those_that_occur() -> None:
    rule = RULE.model_copy(update={"rule": "released"})
    who, rep, teacher = each_of_its_class(torch.arange(20) % 2 * 3), some_rows("rep"), some_rows("teacher")
    memory = full_memory()
    loss, contrasted = contrastive_loss(rep, teacher, who, memory, rule, AT)
    assert contrasted == 1  # class 0 meets itself; class 1, which has no anchor, would meet class 3; class 3 meets none
    memory.written[3] = 0
    assert contrastive_loss(rep, teacher, who, memory, rule, AT)[0] == loss


def test_negatives_are_remembered_at_unit_length_and_no_more_than_asked() -> None:
    memory, rep = ClassMemory([64] * K, D), some_rows("rep")
    negative = torch.zeros(K, 20, dtype=torch.bool)
    negative[1, :3] = negative[2] = True
    remember(memory, rep, negative, 8, AT)
    assert memory.filled.tolist() == [0, 3, 8, 0, 0]
    remembered = memory.keys[1, :3]
    distance = torch.cdist(F.normalize(rep[:3], dim=1), remembered).amin(1)
    assert_close(distance, torch.zeros(3), atol=1e-3, rtol=0)
    assert_close(memory.keys[2, :8].norm(dim=1), torch.ones(8))


def test_ranks_that_nothing_lies_between_are_refused() -> None:
    changes = {"method.name": "u2pl", "method.contrast.low_rank": 20}
    with pytest.raises(ConfigError, match=r"low_rank=20: expected less than high_rank=20"):
        small_run(changes)
