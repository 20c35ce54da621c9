"""Cluster environments: what torchrun, srun and mpirun set is read without them."""

from trainkit.compat.lightning.absent import TORCHRUN, absent_names

__all__: list[str] = []

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
        TORCHRUN,
    ),
)
