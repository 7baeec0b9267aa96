"""Takes many of timm's backbones the whole way: train, export, quantize each flavor, bundle, self-test.

    python3 benchmarks/accuracy/backbones.py --work WORK [--backbone NAME ...] [--images N] [--json | --table]

Method: each backbone, with random weights and its batch norms fitted to photographs of solar cells, gets a head trained for
one epoch on them, and then goes the whole way in a process of its own.  Given are the agreement of each flavor's labels with
FP32's, the files' sizes, and the time of one inference on this machine.  Random weights test the way more than the accuracy:
trained ones quantize better.

Exit codes: 0 every backbone passes, or is refused in one sentence before it is trained; 3 one of them fails later, or with
a traceback.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# At least one small member of each family with a linear head.
BACKBONES = (
    *("tf_efficientnet_lite0", "efficientnet_b0", "tf_efficientnetv2_b0", "mobilenetv2_100", "mobilenetv3_small_100"),
    *("mobilenetv4_conv_small", "mnasnet_100", "fbnetc_100", "ghostnet_100", "lcnet_100", "hardcorenas_a", "tinynet_e"),
    *("resnet18", "resnet26", "resnet18d", "resnext26ts", "seresnext26d_32x4d", "eca_resnext26ts", "regnetx_002"),
    *(
        "regnety_002",
        "regnetz_005",
        "nf_regnet_b0",
        "vgg11_bn",
        "densenet121",
        "dla34",
        "hrnet_w18_small",
        "cspdarknet53",
    ),
    *("darknet53", "vovnet39a", "selecsls42b", "repvgg_a0", "mobileone_s0", "repghostnet_050", "rexnet_100", "dpn48b"),
    *("convnext_atto", "convnextv2_atto", "convmixer_768_32", "mixnet_s", "xception41", "inception_v3", "hgnetv2_b0"),
    *(
        "vit_tiny_patch16_224",
        "deit_tiny_patch16_224",
        "deit3_small_patch16_224",
        "beit_base_patch16_224",
        "swin_tiny_patch4_window7_224",
    ),
    *(
        "swinv2_tiny_window8_256",
        "mobilevit_xxs",
        "mobilevitv2_050",
        "edgenext_xx_small",
        "fastvit_t8",
        "efficientformer_l1",
    ),
    *(
        "efficientvit_b0",
        "poolformer_s12",
        "pit_ti_224",
        "xcit_nano_12_p16_224",
        "mixer_s16_224",
        "gmlp_ti16_224",
        "resmlp_12_224",
    ),
    *(
        "cait_xxs24_224",
        "coat_tiny",
        "crossvit_tiny_240",
        "pvt_v2_b0",
        "twins_svt_small",
        "visformer_tiny",
        "levit_128s",
    ),
    *(
        "tiny_vit_5m_224",
        "repvit_m0_9",
        "inception_next_tiny",
        "focalnet_tiny_srf",
        "davit_tiny",
        "nest_tiny",
        "gcvit_xxtiny",
    ),
    *(
        "maxvit_pico_rw_256",
        "coatnet_pico_rw_224",
        "starnet_s1",
        "ghostnetv2_100",
        "halonet26t",
        "botnet26t_256",
        "sehalonet33ts",
    ),
)
_ONE = """
import json, sys, time
from pathlib import Path
import numpy, timm, torch
from safetensors.torch import save_file
import edgeclf
from edgeclf.data.pixels import load_all
from edgeclf.errors import EdgeclfError
from edgeclf_runtime.images.preprocess import Preprocessing

def fit_norms(backbone, data, file):
    network = timm.create_model(backbone).train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all batches
    side = network.pretrained_cfg["input_size"][1]
    images = numpy.stack(list(load_all(sorted(Path(data).rglob("*.png"))[:32], Preprocessing(side, side))))
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.45).div(0.225).split(8)
    with torch.no_grad():
        for batch in batches:
            network(batch)
    save_file({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}, file)

backbone, data, folder = sys.argv[1:]
start = time.monotonic()
stage, facts = "train", {}
try:
    weights = folder + "/weights.safetensors"
    fit_norms(backbone, data, weights)
    start = time.monotonic()
    report = edgeclf.train(data, folder + "/run", edgeclf.TrainOptions(backbone=backbone, weights=weights, epochs=1))
    facts["train_s"] = round(time.monotonic() - start, 1)
    for stage, step in (
        ("export", lambda: edgeclf.export(folder + "/run")),
        ("quantize", lambda: edgeclf.quantize(folder + "/run", edgeclf.QuantizeOptions(size=32, max_drop=1.0, method="minmax"))),
        ("bundle", lambda: edgeclf.bundle(folder + "/run", folder + "/b.edge", edgeclf.BundleOptions(golden=4))),
    ):
        found = step()
        if stage == "quantize":
            facts["fp32"] = {"mb": round(found.size_fp32 / 1e6, 1), "ms": found.latency_fp32_ms}
            facts["layers"] = found.files[0].layers
            for one in found.files:
                facts[one.name] = {
                    "agreement": one.comparison.agreement, "drop": round(one.comparison.drop, 3),
                    "mb": round(one.size / 1e6, 1), "ms": one.latency_ms, "float_layers": len(one.findings.float_layers),
                }
    stage = ""
except EdgeclfError as error:
    facts["error"] = str(error)
except Exception as error:
    import traceback
    traceback.print_exc()
    facts["traceback"] = f"{type(error).__name__}: {error}".splitlines()[0]
facts.update(backbone=backbone, failed_in=stage, seconds=round(time.monotonic() - start, 1))
print(json.dumps(facts))
"""


def main() -> None:
    """Try the backbones and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder for the photographs and the results, which are kept")
    parser.add_argument("--backbone", action="append", help="only this one (repeatable)")
    parser.add_argument("--images", type=int, default=80, help="photographs of each of the two labels")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--table", action="store_true", help="print a table in Markdown of what WORK already has")
    arguments = parser.parse_args()
    work = Path(arguments.work)
    if arguments.table:
        print(_table([json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]))
        return
    data = _photographs(work / "cells", arguments.images)
    rows = []
    for backbone in arguments.backbone or BACKBONES:
        result = work / f"{backbone}.json"
        row = json.loads(result.read_text()) if result.is_file() else _try(backbone, data, work)
        result.write_text(json.dumps(row) + "\n")
        rows.append(row)
        if not arguments.json:
            print(_line(row), flush=True)
    if arguments.json:
        print(json.dumps({"backbones": rows}, indent=1))
    sys.exit(3 if any(_is_fault(row) for row in rows) else 0)


def _photographs(folder: Path, count: int) -> Path:
    from edgeclf import load_dataset

    copied: dict[str, int] = {}
    for sample in load_dataset("elpv").samples:
        if copied.get(sample.label, 0) < count:
            copied[sample.label] = copied.get(sample.label, 0) + 1
            (folder / sample.label).mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.path, folder / sample.label)
    return folder


def _try(backbone: str, data: Path, work: Path) -> dict[str, Any]:
    folder = work / "now"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = time.monotonic()
    command = [sys.executable, "-c", _ONE, backbone, str(data), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    if not run.stdout.strip():
        seconds = round(time.monotonic() - start, 1)
        return {"backbone": backbone, "failed_in": "?", "traceback": f"exit code {run.returncode}", "seconds": seconds}
    row: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    row["stdout_lines"] = len(run.stdout.strip().splitlines()) - 1
    if not row["failed_in"]:
        test = subprocess.run([sys.executable, folder / "b.edge", "selftest"], capture_output=True, text=True)
        if test.returncode:
            row.update(failed_in="selftest", error=" / ".join((test.stdout + test.stderr).strip().splitlines()[-8:]))
    return row


def _is_fault(row: dict[str, Any]) -> bool:
    return (
        "traceback" in row
        or row["failed_in"] not in ("", "train")
        or (row["failed_in"] == "train" and row["seconds"] > 20)
    )


def _line(row: dict[str, Any]) -> str:
    if row["failed_in"]:
        return (
            f"{row['backbone']:32} {row['failed_in']} after {row['seconds']} s: {row.get('traceback') or row['error']}"
        )
    flavors = [name for name in row if isinstance(row[name], dict) and name != "fp32"]
    agreements = "  ".join(f"{name} {row[name]['agreement']:.0%}" for name in flavors)
    return f"{row['backbone']:32} {row['fp32']['mb']:6.1f} MB {row['fp32']['ms']:6.1f} ms  {agreements}  {row['seconds']} s"


def _table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a table: of each file the share of labels that are FP32's, and its accuracy over FP32's in points."""
    flavors = ("int8-cpu", "int8-arm", "int8-tensorrt", "int8-fp16", "fp16")
    lines = [
        "| backbone | family | FP32 MB | FP32 ms | int8-cpu MB | int8-cpu ms | " + " | ".join(flavors) + " |",
        "| --- " * (6 + len(flavors)) + "|",
    ]
    for row in rows:
        if row["failed_in"]:
            why = "refused" if not _is_fault(row) else f"fails in {row['failed_in']}"
            reason = row.get("traceback") or row["error"]
            cells = [f"{why} after {row['seconds']:.0f} s: {reason}", *[""] * (3 + len(flavors))]
        else:
            cells = [f"{row[name][unit]:.1f}" for name in ("fp32", "int8-cpu") for unit in ("mb", "ms")]
            cells += [f"{row[name]['agreement']:.0%} ({round(-100 * row[name]['drop']):+d})" for name in flavors]
        lines.append(f"| {row['backbone']} | {_family(row['backbone'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _family(backbone: str) -> str:
    """Return timm's module of a backbone, such as mobilenetv3."""
    import timm

    return str(timm.model_entrypoint(backbone).__module__.rpartition(".")[2])


if __name__ == "__main__":
    main()
