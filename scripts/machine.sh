# What the scripts share: how they speak, and what this machine has. Sourced, never run.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$project/.venv

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The path of CUDA 13's compiler; nothing where there is none. The LibTorch in use is built for CUDA 13, whose runtime
# an older compiler's objects do not link with. PENDULUM_CUDA=OFF in the environment asks for a CPU-only build anyway.
cuda_compiler() {
  [ "${PENDULUM_CUDA:-}" = OFF ] && return 0
  local nvcc
  nvcc=$(PATH=$PATH:/usr/local/cuda/bin command -v nvcc || true)
  if [ -n "$nvcc" ] && "$nvcc" --version 2>/dev/null | grep -q 'release 13\.'; then
    printf '%s\n' "$nvcc"
  fi
}

# Compilations at once: one a processor, but no more than memory holds at 1.5 GB each (files that use LibTorch).
build_jobs() {
  local processors free_kb by_memory
  processors=$(nproc)
  free_kb=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  by_memory=$((free_kb / 1500000))
  [ "$by_memory" -lt 1 ] && by_memory=1
  [ "$by_memory" -lt "$processors" ] && printf '%s\n' "$by_memory" || printf '%s\n' "$processors"
}
