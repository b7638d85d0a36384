"""Operations with a fast form: CPU kernels, BatchNorm over several processes, and what a GPU may use."""
