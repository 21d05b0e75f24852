# Every check that needs a GPU, the short ones first; each has its own limit, so that one that hangs ends no other.
#     sh bench/gpu_all.sh [seconds for each]
limit=${1:-120}
export PYTHONPATH="$PWD"
cd bench || exit 2
timeout "$limit" python gpu_speed.py --kinds bf16,int4,int8 --lengths 1024 --repeats 2 --plain
timeout "$limit" python gpu_speed.py --kinds bf16 --ways sdpa --lengths 256 --repeats 1
cd ..
timeout "$limit" python -m pytest tests/engine/test_cuda.py tests/qwen_model/test_cuda.py -q -x
