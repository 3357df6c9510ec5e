"""What "absent" means: of a channel of a raw image or a branch of a preprocessed case, and of a patch.

Two modules, because whoever looks at raw images in a worker process should not have to load torch. A third erases parts
of images without making them look absent.
"""
