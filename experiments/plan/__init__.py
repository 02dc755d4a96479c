"""One problem: options, solving, draws of its platform, its front."""
