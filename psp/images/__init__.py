"""Pictures from files and to the network: decoding, preprocessing, label maps, sketches, contact sheets."""
