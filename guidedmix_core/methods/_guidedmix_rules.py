"""What GuidedMix-Net's configuration may not combine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from guidedmix_core.fields import is_off

if TYPE_CHECKING:
    from guidedmix_core.methods.guidedmix import GuidedMix


def contradictions(method: GuidedMix) -> Iterator[str]:
    """What spans fields; each begins with the dotted path."""
    teaches, loss, soft = not is_off(method.unlabeled.weight), method.unlabeled.loss, method.pseudo.target == "soft"
    if loss in ("mse", "kl") and not soft:
        yield f"method.unlabeled.loss={loss}: compares probabilities; use method.pseudo.target: soft, or the loss ce"
    if loss == "focal" and soft:
        yield "method.unlabeled.loss=focal: needs a class for each pixel; use method.pseudo.target: hard"
    if method.decouple.subtract == "truth" and method.decouple.kind != "probability":
        yield "method.decouple.subtract=truth: a mask has no logits; use method.decouple.kind: probability"
    if method.mix.level == "none":
        if method.direction == "plain_teaches" or method.ema is not None:
            yield "method.mix.level=none: no mixed branch, as method.direction: plain_teaches and method.ema need it"
        return
    if method.pairing.mode == "class_prob_l2" and is_off(method.pairing.alignment_weight):
        yield "method.pairing.alignment_weight=0: class_prob_l2 would compare an untrained classifier"
    if method.direction == "mixed_teaches":
        if teaches and is_off(method.labeled_mixed_weight):
            yield "method.labeled_mixed_weight=0: nothing else trains the branch that teaches; expected more"
        if not is_off(method.labeled_decoupled_weight):
            yield "method.labeled_decoupled_weight: belongs to method.direction: plain_teaches; expected 0"
        return
    if method.student_view != "weak":
        yield f"method.student_view={method.student_view}: for direction mixed_teaches; plain_teaches has weak"
    if method.ema is not None:
        yield f"method.ema={method.ema}: in the direction plain_teaches the mixed branch teaches nobody; use null"
    if loss == "focal" and method.decouple.kind == "probability":
        yield "method.unlabeled.loss=focal: reads logits; use method.decouple.kind: logit_sub or logit"
