"""GuidedMix-Net: labeled images guide the pseudo masks of unlabeled ones that are mixed with them.

Tu et al., GuidedMix-Net, arXiv 2106.15064, and AAAI 2022, arXiv 2112.14015. Released code: yh-pengtu/GuidedMix-Net.
The algorithm, with f the student and g its mixed branch (f with MITrans, or with a head of its own):

    lam ~ U(0, lambda_max),  guide = the labeled image for each unlabeled one
    z_l, z_u = f(x_l), f(x_u)                              one backbone pass, two head passes
    z_m      = g(lam x_l[guide] + (1 - lam) x_u)           mixed as images, or as maps at a tap
    d        = decouple(z_m, z_l[guide], lam)              what remains of the unlabeled image

    mixed_teaches (the abstracts):        L = CE(z_l, y_l) + w loss(z_u, sg(d)) + w_m lam CE(z_m, y_l[guide])
                                              + w_x (1 - lam) CE(z_m, sg(argmax z_u))
    plain_teaches (the released code):    L = CE(z_l, y_l) + w loss(d, sg(z_u))

The two readings differ in more than the direction. Every difference is a field; the presets `guidedmix_paper` and
`guidedmix_official` name both sets. The result is the student alone: MITrans and the second head serve training only.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from guidedmix_core.batch import Batch, Pseudo, StepLosses, Unlabeled, Views
from guidedmix_core.ema import frozen_copy, in_mode, ramped, update
from guidedmix_core.fields import Weight, is_off
from guidedmix_core.labeled import Labeled
from guidedmix_core.methods import Build, Method, Taught
from guidedmix_core.methods._guidedmix_fields import Decouple, Mix, Pairing, PseudoMask, Refine, UnlabeledLoss
from guidedmix_core.methods._guidedmix_networks import GuidedNetworks, Mixed, MixedBranch, Scene, Seen, see
from guidedmix_core.methods._guidedmix_rules import contradictions
from guidedmix_core.mixing import CutMix, blend_maps, cutmix_boxes, draw_lambda, mix_pseudo, partners, paste
from guidedmix_core.modules.mitrans import MITrans
from guidedmix_core.pairing import PairQueue, alignment_loss, choose_guides, embed
from guidedmix_core.pseudo import confident, decouple, predict_pseudo, shrink, teach
from guidedmix_core.rng import At


class GuidedMix(Method):
    """The pseudo mask of an unlabeled image is read off its mixture with a labeled one, whose part is taken out."""

    direction: Literal["mixed_teaches", "plain_teaches"] = Field(
        "mixed_teaches", description="the student learns from the mixed branch (abstracts), or that from it (code)"
    )
    mix: Mix = Mix()
    pairing: Pairing = Pairing()
    mitrans: Refine = Refine()
    head_mix: Literal["shared", "separate"] = Field(
        "shared", description="separate: the mixed branch has layers of its own from the bottleneck on (code)"
    )
    decouple: Decouple = Decouple()
    pseudo: PseudoMask = PseudoMask()
    unlabeled: UnlabeledLoss = UnlabeledLoss()
    student_view: Literal["weak", "strong", "cutmix"] = Field(
        "cutmix",
        description="what the student sees of the unlabeled images when the mixed branch teaches; ours: the abstracts "
        "say nothing of it",
    )
    cutmix: CutMix = CutMix(probability=1.0)
    labeled_mixed_weight: Weight = Field(1.0, description="of lam CE(z_m, y_l[guide]), which trains the mixed branch")
    mixup_weight: Weight = Field(
        1.0,
        description="of (1 - lam) CE(z_m, the plain prediction of x_u); ours: without it the mixed branch learns to "
        "look past the unlabeled image, and what is decoupled from it teaches nothing",
    )
    mixup_threshold: float = Field(0.0, ge=0, le=1, description="confidence below which a pixel is not in that term")
    labeled_decoupled_weight: Weight = Field(
        0.0, description="of lam loss(z_m - (1 - lam) z_u, sg(z_l)), which the released code computes and does not add"
    )
    ema: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="decay of an average of the networks that makes the pseudo masks; null: none",
    )
    labeled: Labeled = Field(Labeled(), description="also of the mixed image's labeled part; code: normalize all")

    @model_validator(mode="after")
    def _has_no_contradiction(self) -> GuidedMix:
        for problem in contradictions(self):
            raise ValueError(problem)
        return self

    def check(self, run) -> None:
        if self.mix.level in ("c5", "aspp"):
            run.segmentor.check_tap(self.mix.level, "method.mix.level")

    def views(self) -> Views:
        used = any(not is_off(weight) for weight in self._guided_weights().values())
        return Views(unlabeled=used, strong=int(used and self.student_view != "weak"))

    def networks(self, build: Build) -> GuidedNetworks:
        student = build.segmentor("student")
        before_context = student.taps[student.taps.index("context") - 1]
        tap = before_context if self.mitrans.where == "pre_bottleneck" else "context"
        if self.mix.level == "none":
            return GuidedNetworks(MixedBranch(student, MITrans(0, 0), tap, None))
        mitrans = build.module("mitrans", lambda: self.mitrans.build(student.channels[tap]))
        mix_head = build.segmentor("mix_head").tail(before_context) if self.head_mix == "separate" else None
        branch = MixedBranch(student, mitrans, tap, mix_head)
        align_head = None
        if not is_off(self.pairing.alignment_weight):
            align_head = build.module("align_head", lambda: nn.Linear(student.channels["c5"], build.num_classes))
        queue = PairQueue(self.pairing.queue_size) if self.pairing.scope == "queue" else None
        return GuidedNetworks(branch, align_head, queue, None if self.ema is None else frozen_copy(branch))

    def losses(self, nets: GuidedNetworks, batch: Batch, at: At) -> StepLosses:
        guided = self._guided_weights()
        weights = at.weights({"supervised": 1.0, "alignment": self._alignment_weight(), **guided})
        if guided.keys().isdisjoint(weights):
            (labeled,) = see(nets.student, [batch.image], self.mix.level)
            return StepLosses(self._labeled_terms(nets, labeled, batch, weights), weights)
        labeled, scene = self._scene(nets, batch, at)
        terms = self._labeled_terms(nets, labeled, batch, weights)
        guided_terms = {
            "unlabeled": self._unlabeled,
            "labeled_mixed": self._labeled_mixed,
            "mixup": self._mixup,
            "labeled_decoupled": self._labeled_decoupled,
        }
        terms |= {name: term(nets, scene, batch) for name, term in guided_terms.items() if name in weights}
        return StepLosses(terms, weights, self._metrics(nets, scene))

    def after_step(self, nets: GuidedNetworks, at: At) -> None:
        if nets.teacher is not None and self.ema is not None:
            update(nets.teacher, nets, ramped(self.ema, at.step))

    @torch.no_grad()
    def taught(self, nets: GuidedNetworks, batch: Batch, at: At) -> Taught | None:
        if is_off(self.unlabeled.weight):
            return None
        assert batch.unlabeled is not None
        labeled, weak = see(nets.student, [batch.image, batch.unlabeled.weak], self.mix.level)
        mixed = self._mix(nets, labeled, weak, batch, at)
        size, resize = _size(batch.mask), nets.student.resize
        claim, plain = (resize(logits, size) for logits in (self._claim(nets, weak, mixed), weak.logits))
        pseudo = predict_pseudo(claim, batch.unlabeled.valid)
        return Taught(pseudo, confident(pseudo, self.pseudo.threshold), plain.argmax(1))

    def _scene(self, nets: GuidedNetworks, batch: Batch, at: At) -> tuple[Seen, Scene]:
        """The labeled images as the student sees them, and everything about the unlabeled ones."""
        assert batch.unlabeled is not None
        extra, region = self._student_view(batch.unlabeled, at)
        labeled, weak, *views = see(nets.student, [batch.image, batch.unlabeled.weak, *extra], self.mix.level)
        mixed = self._mix(nets, labeled, weak, batch, at, remember=True)
        claim = self._claim(nets, weak, mixed)
        valid = torch.ones_like(batch.unlabeled.valid) if self.pseudo.keep_padding else batch.unlabeled.valid
        pseudo = predict_pseudo(claim, shrink(valid, _size(claim)))
        return labeled, Scene(weak, [weak, *views][-1], region, mixed, pseudo)

    def _student_view(self, unlabeled: Unlabeled, at: At) -> tuple[list[Tensor], Bool[Tensor, "U H W"] | None]:
        """The view the student learns on, if it is not the weak one, and where CutMix pasted into it."""
        if self.student_view == "weak":
            return [], None
        (strong,) = unlabeled.strong
        if self.student_view == "strong":
            return [strong], None
        region = cutmix_boxes(at.generator("cutmix"), len(strong), _size(strong), self.cutmix, strong.device)
        return [paste(strong.roll(-1, 0), strong, region)], region

    def _mix(
        self, nets: GuidedNetworks, labeled: Seen, weak: Seen, batch: Batch, at: At, *, remember: bool = False
    ) -> Mixed | None:
        if self.mix.level == "none":
            return None
        lam = draw_lambda(at.shared("lambda"), self.mix.lambda_max)
        guide, truth = self._guide(nets, labeled, weak, batch, at, remember)
        return Mixed(lam, guide, truth, nets.mixed_logits(blend_maps(guide.maps, weak.maps, lam), self.mix.level))

    def _guide(
        self, nets: GuidedNetworks, labeled: Seen, weak: Seen, batch: Batch, at: At, remember: bool
    ) -> tuple[Seen, Int[Tensor, "U H W"]]:
        """The guide of each unlabeled image, and its mask. One from the queue is seen again, by the weights of now."""
        mode, generator = self.pairing.mode, at.generator("pairing")
        wanted, offered = (embed(side.pooled, mode, nets.align_head) for side in (weak, labeled))
        if nets.queue is None:
            index = choose_guides(wanted, offered, mode, generator, one_to_one=True)
            return labeled.take(index), batch.mask[index]
        pool = nets.queue.pool(batch.image, batch.mask, offered)
        index = choose_guides(wanted, pool.embedding, mode, generator, one_to_one=False)
        if remember:  # a buffer of the forward pass, as BatchNorm's statistics are
            nets.queue.store(pool)
        is_constant = self.decouple.detach_labeled and self.mix.level == "image"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_constant):
            (guide,) = see(nets.student, [pool.image[index].to(batch.image.dtype) / 255], self.mix.level)
        return guide, pool.mask[index].to(batch.mask.dtype)

    @torch.no_grad()
    def _claim(self, nets: GuidedNetworks, weak: Seen, mixed: Mixed | None) -> Float[Tensor, "U K _ _"]:
        """The logits that teach."""
        if mixed is None or self.direction == "plain_teaches":
            return self._sized(nets, weak.logits, _size(weak.image))
        if nets.teacher is None:
            return self._decoupled(nets, mixed)
        with in_mode(nets.teacher, training=False):
            guide, own = see(nets.teacher.student, [mixed.guide.image, weak.image], self.mix.level)
            logits = nets.teacher.mixed_logits(blend_maps(guide.maps, own.maps, mixed.lam), self.mix.level)
            return self._decoupled(nets, Mixed(mixed.lam, guide, mixed.truth, logits))

    def _decoupled(self, nets: GuidedNetworks, mixed: Mixed) -> Float[Tensor, "U K _ _"]:
        """What remains of the unlabeled images, as logits."""
        pair, size = (mixed.logits, mixed.guide.logits), _size(mixed.truth)
        of_mixed, of_guide = (self._sized(nets, logits, size) for logits in pair)
        of_guide = of_guide.detach() if self.decouple.detach_labeled else of_guide
        truth = shrink(mixed.truth, _size(of_mixed)) if self.decouple.subtract == "truth" else None
        return decouple(of_mixed, of_guide, mixed.lam, self.decouple.kind, truth)

    def _sized(self, nets: GuidedNetworks, logits: Tensor, size: tuple[int, int]) -> Float[Tensor, "N K _ _"]:
        """Where the unlabeled loss is computed: at the image's size or the logits' own."""
        return nets.student.resize(logits, size) if self.unlabeled.resolution == "image" else logits

    def _labeled_terms(
        self, nets: GuidedNetworks, labeled: Seen, batch: Batch, weights: dict[str, float]
    ) -> dict[str, Float[Tensor, ""]]:
        logits = nets.student.resize(labeled.logits, _size(batch.mask))
        terms = {"supervised": self.labeled.loss(logits, batch.mask)}
        if "alignment" in weights:
            assert nets.align_head is not None
            pooled = labeled.pooled if self.pairing.align_backbone else labeled.pooled.detach()
            terms["alignment"] = alignment_loss(nets.align_head(pooled), batch.mask)
        return terms

    def _unlabeled(self, nets: GuidedNetworks, scene: Scene, batch: Batch) -> Float[Tensor, ""]:
        if self.direction == "plain_teaches":
            return self._teach(self._decoupled(nets, _some(scene.mixed)), scene.pseudo)
        pseudo = scene.pseudo
        if scene.region is not None:
            pseudo = mix_pseudo(partners(pseudo), pseudo, shrink(scene.region, _size(pseudo.label)))
        return self._teach(self._sized(nets, scene.student.logits, _size(batch.mask)), pseudo)

    def _labeled_mixed(self, nets: GuidedNetworks, scene: Scene, batch: Batch) -> Float[Tensor, ""]:
        mixed = _some(scene.mixed)
        logits = nets.student.resize(mixed.logits, _size(batch.mask))
        return mixed.lam * self.labeled.loss(logits, mixed.truth)

    def _mixup(self, nets: GuidedNetworks, scene: Scene, batch: Batch) -> Float[Tensor, ""]:
        assert batch.unlabeled is not None
        mixed, size, resize = _some(scene.mixed), _size(batch.mask), nets.student.resize
        plain = predict_pseudo(resize(scene.weak.logits, size), batch.unlabeled.valid)
        kept = confident(plain, self.mixup_threshold).float()
        return (1 - mixed.lam) * teach(
            resize(mixed.logits, size), plain, kept, loss="ce", normalize=self.labeled.normalize
        )

    def _labeled_decoupled(self, nets: GuidedNetworks, scene: Scene, batch: Batch) -> Float[Tensor, ""]:
        mixed, size = _some(scene.mixed), _size(batch.mask)
        triple = (mixed.logits, scene.weak.logits, mixed.guide.logits)
        of_mixed, plain, of_guide = (self._sized(nets, logits, size) for logits in triple)
        plain = plain.detach() if self.decouple.detach_labeled else plain
        claim = predict_pseudo(of_guide, torch.ones_like(of_guide[:, 0], dtype=torch.bool))
        return mixed.lam * self._teach(decouple(of_mixed, plain, 1 - mixed.lam, "logit_sub"), claim)

    def _teach(self, logits: Float[Tensor, "U K _ _"], pseudo: Pseudo) -> Float[Tensor, ""]:
        kept = confident(pseudo, self.pseudo.threshold)
        return self.unlabeled.of(logits, pseudo, kept, soft=self.pseudo.target == "soft")

    @torch.no_grad()
    def _metrics(self, nets: GuidedNetworks, scene: Scene) -> dict[str, Float[Tensor, ""]]:
        """`leak`: the share of taught pixels that carry the guide's class where the plain prediction says another."""
        kept = confident(scene.pseudo, self.pseudo.threshold)
        metrics = {"kept": kept.float().mean()}
        if scene.mixed is not None:
            truth, label = shrink(scene.mixed.truth, _size(kept)), scene.pseudo.label
            plain = self._sized(nets, scene.weak.logits, _size(scene.weak.image)).argmax(1)
            leaked = kept & (label == truth) & (label != plain)
            metrics["leak"] = leaked.sum() / kept.sum().clamp(min=1)
            metrics["lambda"] = torch.full_like(metrics["kept"], scene.mixed.lam)
        if gammas := nets.mitrans.gammas():
            metrics["gamma"] = torch.stack(gammas).abs().mean().float()
        return metrics

    def _guided_weights(self) -> dict[str, Weight]:
        """Of the terms that need unlabeled images."""
        unlabeled: dict[str, Weight] = {"unlabeled": self.unlabeled.weight}
        if self.mix.level == "none":
            return unlabeled
        return unlabeled | {
            "labeled_mixed": self.labeled_mixed_weight,
            "mixup": self.mixup_weight,
            "labeled_decoupled": self.labeled_decoupled_weight,
        }

    def _alignment_weight(self) -> Weight:
        return 0.0 if self.mix.level == "none" else self.pairing.alignment_weight


def _size(pixels: Tensor) -> tuple[int, int]:
    return pixels.shape[-2], pixels.shape[-1]


def _some(mixed: Mixed | None) -> Mixed:
    assert mixed is not None, "terms of mixed images have no weight without mixing"
    return mixed
