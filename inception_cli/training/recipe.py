"""Everything about a training that is not an option of the user."""

from dataclasses import dataclass, field

from inception_cli.training.augment import Augmentation
from inception_cli.training.last_layer import LastLayerFit
from inception_cli.training.learner import Hyperparameters

#: Without gradients, this many times the crops take about as much memory: at 299 pixels in bf16 on a CPU, 128 crops 1.2
#: GB, and a training step with 32 crops of 256 pixels 1.4 GB.
STATISTICS_FACTOR = 4


@dataclass(frozen=True)
class Recipe:
    """Everything about the training that is not an option of the user."""

    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    augmentation: Augmentation = field(default_factory=Augmentation)
    # Batch norm normalises a training batch by its own statistics. With CutMix, changed colours and smaller crops these
    # differ from those of the photos that are classified, by a little in each layer, and over the layers features of
    # some classes became a hundred times too large. So the statistics are measured again, on crops without these
    # changes (precise batch norm: Wu and Johnson, arXiv:2105.07576), before each evaluation of the averaged weights.
    # Batches are larger than in training, as each is normalised by its own statistics, and those of a small one depend
    # on the few images in it: with batches of 32 one network was wrong for most drawn oranges, with 128 for none. For
    # the photos of the cross-validation the size made no difference; see the model card of `demo`.
    plain_crops: Augmentation = field(
        default_factory=lambda: Augmentation((0.35, 1.0), brightness=0, contrast=0, saturation=0, tint=0, cutmix=0)
    )
    statistics_crops: int = 512  # or as many as training images, if they are fewer; 0: the last ones of training
    statistics_batch: int = 128  # crops at most, and at most `STATISTICS_FACTOR` times as many as in training
    last_layer: LastLayerFit = field(default_factory=LastLayerFit)  # on the same kind of crops
    pretrained_rate: float = 0.25  # factor of the learning rate when training starts from existing weights
    balance: float = 0.5  # classes of n images are sampled in proportion to n ** (1 - balance)
    # Objects look larger in a random crop than in the centre crop that is classified, so crops are smaller than the
    # input resolution (Touvron et al., arXiv:1906.06423). They start even smaller, which saves time.
    first_crop: float = 0.6  # size of the crops in the first epoch, as a share of the input resolution
    last_crop: float = 0.85
    # The smaller the crops, the more cells of the last grids are at the border, where zeros are added, and the more the
    # statistics of the batch norms differ from those at the input resolution. With crops below this the validation
    # accuracy stayed low: 33 to 67 % instead of 100 % (3 classes of 40 photos, input resolutions 96 and 128).
    smallest_crop: int = 112  # pixels; or the input resolution, if that is smaller
    growth: float = 0.7  # share of the epochs after which `last_crop` is reached
    cached_side: float = 1.5  # short side of the decoded images in memory, as a multiple of the input resolution
    val_every: int = 10  # without a validation folder, one image in this many is for validation,
    val_run_length: int = 10  # in runs of up to this many consecutive files
    patience: float = 0.5  # training stops after this share of the epochs without a better one

    def crop_sizes(self, size: int, epochs: int) -> list[int]:
        """Return the side of the crops in pixels in each epoch: a multiple of 16, or the input resolution `size`."""
        shares = [min(1.0, epoch / (self.growth * epochs)) for epoch in range(epochs)]
        sides = [size * (self.first_crop + (self.last_crop - self.first_crop) * grown) for grown in shares]
        return [max(min(size, self.smallest_crop), 16 * round(side / 16)) for side in sides]

    def statistics_batches(self, images: int, batch_size: int) -> tuple[int, int]:
        """Return the number of batches for the batch-norm statistics, and their size, which is the same for all."""
        count = max(2, min(images, self.statistics_crops))  # batch norm needs two
        batches = -(-count // min(self.statistics_batch, STATISTICS_FACTOR * batch_size))
        return batches, -(-count // batches)
