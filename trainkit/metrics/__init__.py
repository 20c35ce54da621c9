"""What ``self.log`` collects: values stay on their device, epochs are weighted, ranks agree exactly."""
