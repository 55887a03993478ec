import torch

from prunelab.data.dataset import Decoded, fingerprint, moments

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=GENERATOR)
Y = torch.arange(40) % 4


def test_moments_equal_those_of_the_float_images() -> None:
    x = X[:, :, :, :16]
    mean, std = moments(x)
    planes = x.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), planes.mean(1))
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), planes.std(1, correction=0))


def test_fingerprint_sees_one_pixel_and_one_label() -> None:
    x, y = X.clone(), Y.clone()
    x[7, 2, 31, 31] ^= 1
    y[39] += 1
    assert len(fingerprint(X, Y)) == 16
    assert len({fingerprint(X, Y), fingerprint(x, Y), fingerprint(X, y)}) == 3


def test_split_shares_one_pool_and_one_fingerprint() -> None:
    decoded = Decoded.measure((X, Y), (X[:8], Y[:8]), tuple("abcd"))
    one, other = decoded.split(8, seed=0), decoded.split(12, seed=1)
    assert one.train.pool is one.val.pool is decoded.x_train
    assert (len(one.train), len(one.val), len(one.test), len(other.val)) == (32, 8, 8, 12)
    assert one.fingerprint == other.fingerprint
    assert one.mean == other.mean
