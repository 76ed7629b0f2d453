"""From files to uint8 arrays: discover, decode, preprocess and batch images."""
