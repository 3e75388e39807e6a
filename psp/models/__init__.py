"""Networks put together to something that translates: pSp, ReStyle, image to image; styles and mixing."""
