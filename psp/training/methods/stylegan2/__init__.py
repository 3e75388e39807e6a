"""`--method stylegan2`: a generator, alone or trained together with the encoders in front of it."""
