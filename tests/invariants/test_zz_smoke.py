import pytest, torch
from guidedmix_core.batch import Batch, Unlabeled
from guidedmix_core.methods.guidedmix import GuidedMix
from guidedmix_core.methods.mean_teacher import MeanTeacher
from guidedmix_core.components import find
from guidedmix_core.rng import At, ambient
from guidedmix_core.trainer import Builder

def batch(B=4,U=4,K=3,H=32,W=48):
    g=torch.Generator().manual_seed(0)
    r=lambda *s: torch.rand(*s,generator=g)
    m=torch.randint(0,K,(B,H,W),generator=g); m[:, :2]=255
    v=torch.ones(U,H,W,dtype=torch.bool); v[:,:,:5]=False
    return Batch(r(B,3,H,W), m, Unlabeled(r(U,3,H,W),(r(U,3,H,W),),v))

P = [dict(), dict(mix=dict(level="c5")), dict(mix=dict(level="aspp"),mitrans=dict(where="pre_bottleneck")), dict(head_mix="separate"),
 dict(ema=.9), dict(student_view="cutmix"), dict(student_view="strong", unlabeled=dict(resolution="logits")), dict(mixup_weight=1., mixup_threshold=0.), dict(decouple=dict(kind="probability",subtract="truth")),
 dict(pairing=dict(mode="random",scope="batch",alignment_weight=0)), dict(pairing=dict(mode="feature_cos",scope="batch")), dict(pairing=dict(mode="feature_l2")),
 dict(mix=dict(level="none"),decouple=dict(kind="none"),mitrans=dict(depth=0),student_view="strong"),
 dict(pseudo=dict(target="soft"),unlabeled=dict(loss="kl")), dict(pseudo=dict(target="soft"),unlabeled=dict(loss="mse")),
 dict(direction="plain_teaches", unlabeled=dict(loss="focal",weight=10.,resolution="logits"), labeled_decoupled_weight=10., decouple=dict(kind="logit_sub",detach_labeled=False)),
 dict(direction="plain_teaches", decouple=dict(kind="probability"),mitrans=dict(residual="none"))]
@pytest.mark.parametrize("seg",["deeplabv3","deeplabv3plus","unet"])
@pytest.mark.parametrize("p",P)
def test_a(p,seg):
    m=GuidedMix(**p)
    S=find("segmentors",seg)
    sc=S.model_validate({"backbone":{"name":"tiny","width":4}, **({"channels":8} if seg=="deeplabv3" else {"aspp_channels":8,"decoder_channels":8} if seg!="unet" else {"context_channels":8})})
    try: m.check(sc,None)
    except ValueError as e: print(e); return
    nets=m.networks(Builder(0,sc,3)); nets.train()
    opt=torch.optim.SGD([q for q in nets.parameters() if q.requires_grad],.1)
    for t in (4,5):
        at=At(0,t,10)
        with ambient(0,"dropout",t):
            l=m.losses(nets,batch(U=4 if t==4 else 6),at)
        opt.zero_grad(); l.total().backward(); opt.step()
        with torch.no_grad(): m.after_step(nets,at)
    print({k:v.item() for k,v in l.terms.items()}, {k:v.item() for k,v in l.metrics.items()})
    nets.eval(); tt=m.taught(nets,batch(),at); assert tt.plain.shape==(4,32,48)
    other=m.networks(Builder(1,sc,3)); other.load_state_dict(nets.state_dict())
    assert m.predictor(nets)(batch().image).shape==(4,3,32,48)
@pytest.mark.parametrize("p",[dict(),dict(mixer="classmix",normalize="fraction"),dict(mixer="none",strong=False,loss="mse",teacher_mode="train",cover="params",threshold=0.,weight=100.,joint_batch=False)])
def test_mt(p):
    m=MeanTeacher(**p); sc=find("segmentors","deeplabv3").model_validate({"backbone":{"name":"tiny","width":4},"channels":8})
    nets=m.networks(Builder(0,sc,3)); nets.train()
    l=m.losses(nets,batch(),At(0,1,2)); l.total().backward(); m.after_step(nets,At(0,1,2)); print(l)
    nets.eval(); m.taught(nets,batch(),At(0,1,2))
