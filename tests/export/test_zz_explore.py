import pytest, torch, warnings
from kft.export.merge import *
from kft.export.verify import *
from kft.export.rounding import rounding_limits
from kft.models.vocabulary import fit_vocabulary
from kft.models.adapters import attach_adapter
import copy, time
CASES = {
 "lora": (dict(), dict(), "float32"),
 "dora": (dict(use_dora=True), dict(), "float32"),
 "bias": (dict(bias="all", use_rslora=True), dict(), "float32"),
 "alllin": (dict(target_modules="all-linear"), dict(), "float32"),
 "bf16base": (dict(), dict(), "bfloat16"),
 "nf4": (dict(), dict(quantization="nf4"), "float32"),
 "nf4bf16": (dict(), dict(quantization="nf4"), "bfloat16"),
 "nf4single": (dict(), dict(quantization="nf4", double_quant=False), "float32"),
 "nf4dora": (dict(use_dora=True), dict(quantization="nf4"), "bfloat16"),
 "fp4": (dict(), dict(quantization="fp4"), "float32"),
 "int8": (dict(), dict(quantization="int8"), "float32"),
 "int8bf16": (dict(), dict(quantization="int8"), "bfloat16"),
 "emb": (dict(modules_to_save=["EMB"]), dict(), "float32"),
 "head": (dict(modules_to_save=["HEAD"]), dict(), "float32"),
 "both": (dict(modules_to_save=["EMB","HEAD"]), dict(), "float32"),
 "new": (dict(), dict(), "float32"),
 "newnf4": (dict(), dict(quantization="nf4"), "bfloat16"),
}
@pytest.mark.parametrize("arch", ["tiny_gpt","tiny_llama","tiny_neox"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("default")
def test_all(case, arch, request, trained, held_out, tmp_path):
    ck = request.getfixturevalue(arch)
    ad, mo, dt = copy.deepcopy(CASES[case])
    names = {"tiny_gpt":("wte","lm_head"),"tiny_llama":("embed_tokens","lm_head"),"tiny_neox":("embed_in","embed_out")}[arch]
    if "modules_to_save" in ad: ad["modules_to_save"]=[{"EMB":names[0],"HEAD":names[1]}[m] for m in ad["modules_to_save"]]
    if arch!="tiny_gpt" and "NEOX" : pass
    run = trained(ck, ad, mo, dt, ("ㅋㅋ","<|new|>") if case.startswith("new") else ())
    for dtype in (torch.float32, torch.bfloat16):
      t=time.time()
      base = plain_base(run.section, "AutoModelForCausalLM", run.base)
      um = attach_adapter(copy.deepcopy(base), run.folder)
      limits = rounding_limits(um, held_out, dtype)
      merged = merge_adapter(base, run.folder)
      part = save_merged(merged, run.tokenizer, tmp_path/"merged", dtype, "5GB")
      v = verify_folder(run.reference, part, "AutoModelForCausalLM", held_out, limits)
      print("RES", case, arch, dtype, v.passed, f"max {v.max_logit_difference:.2e}/{v.limit_logits:.2e} kl {v.kl_nats:.2e}/{v.limit_kl:.2e} top1 {v.top1_agreement:.3f} dl {v.loss_difference:.1e}", v.worst_layer, v.worst_layer_difference, f"{time.time()-t:.2f}s")
      if mo:
        base = plain_base(run.section, "AutoModelForCausalLM"); fit_vocabulary(base, run.tokenizer)
        part = save_merged(merge_adapter(base, run.folder), run.tokenizer, tmp_path/"merged", dtype, "5GB")
        v = verify_folder(run.reference, part, "AutoModelForCausalLM", held_out, limits)
        print("ORI", case, arch, dtype, v.passed, f"max {v.max_logit_difference:.2e}/{v.limit_logits:.2e} kl {v.kl_nats:.2e}/{v.limit_kl:.2e} top1 {v.top1_agreement:.3f} dl {v.loss_difference:.1e}", v.worst_layer, v.worst_layer_difference)
