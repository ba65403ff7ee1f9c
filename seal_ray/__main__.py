"""`python -m seal_ray`: the command line, where its script is not on the path."""

from seal_ray.cli import main

if __name__ == "__main__":
    main()
