//! CUDA kernels of Selvedge and their typed launchers.
