"""Cluster environments: torchrun starts the processes, on one machine or many."""

from trainkit.compat.lightning.absent import absent_names

__all__: list[str] = []

_TORCHRUN = "torchrun, which sets the environment that trainkit reads; under SLURM: srun torchrun ..."

__getattr__ = absent_names(
    __name__,
    dict.fromkeys(
        (
            "ClusterEnvironment",
            "KubeflowEnvironment",
            "LSFEnvironment",
            "LightningEnvironment",
            "MPIEnvironment",
            "SLURMEnvironment",
            "TorchElasticEnvironment",
            "XLAEnvironment",
        ),
        _TORCHRUN,
    ),
)
