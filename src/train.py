"""`python -m train`: prunelab's entry under the name that its users type; `prunelab/train.py` is all of it."""

from prunelab.train import main

if __name__ == "__main__":
    main()
