"""Operations with a fast form: CPU kernels, BatchNorm over several processes, and the switches for GPUs."""
