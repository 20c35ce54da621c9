#!/usr/bin/env bash
# The checks that need one CUDA GPU: ddp and fsdp with one rank over nccl, bf16, compiled steps, CUDA graphs, transfers.
# In an environment with `pip install -e ".[dev]" -c constraints.txt` and a torch for CUDA:  scripts/on_gpu.sh [PYTEST OPTIONS]
set -euo pipefail
cd "$(dirname "$0")/.."

python -c 'import torch; assert torch.cuda.is_available(), "torch finds no CUDA device"; print(torch.__version__, torch.cuda.get_device_name())'
# One after another: they share the memory of the GPU.
exec python -m pytest -m cuda -n 0 "$@"
