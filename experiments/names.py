"""Names that flags allow, listed here because flags are read before JAX is imported."""

DATA_DIR = "Folder of published data, EBM_JAX_DATA if unset; what is missing is downloaded into it."
IMAGES = ("digits", "mnist", "notmnist")  # named sets of images
DENSITY_TABLES = ("plants", "dna", "mushrooms", "baudio", "jester")  # binary benchmarks
LOSSES = (
    *("energy", "hinge", "log", "lvq2", "mce", "simple", "square_square", "square_exponential"),
    *("perceptron", "nll", "mee"),
)
DENSITIES = (
    *("8gaussians", "2spirals", "checkerboard", "pinwheel", "rings", "moons", "swissroll"),
    "cosine",
)
CONTINUOUS = (  # objectives for points in the plane
    *("exact", "cd", "pcd", "short_run", "improved_cd", "amortized", "score_matching"),
    *("hutchinson_score_matching", "sliced_score_matching", "denoising_score_matching"),
    *("stein_discrepancy", "binary_nce", "ranking_nce", "conditional_nce", "energy_discrepancy"),
    *("recovery_likelihood", "energy_matching", "equilibrium_matching"),
)
BINARY = (  # objectives for bits
    *("exact", "cd", "pcd", "informed_pcd", "pseudo_likelihood", "ratio_matching"),
    *("minimum_probability_flow", "binary_nce", "ranking_nce", "conditional_nce"),
    *("energy_discrepancy", "grid_energy_discrepancy"),
)
MOST_EXACT = 20  # hidden units whose states are all summed over
MOST_EXACT_ONCE = 23  # the same, where it is done once: after training
FEWEST_EFFECTIVE = 20  # effective samples: with fewer an estimate of log Z is not reliable
