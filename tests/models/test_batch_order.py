"""Images of a batch that shows several instants, each of which is drawn by itself."""

import torch
from toys import make_view

from moegs_ns.models.expert_model import in_batch_order, rows_by_frame


def test_images_return_to_the_rows_of_their_batch():
    view = make_view(5)
    view.frame_ids[:] = torch.tensor([7, 2, 7, 4, 2])
    rows = rows_by_frame(view)
    assert [group.tolist() for group in rows] == [[1, 4], [3], [0, 2]]
    batch = torch.rand(5, 2, 3, 3, requires_grad=True)
    images = in_batch_order([batch[group] for group in rows], rows)
    assert torch.equal(images, batch) and not images.requires_grad


def test_a_single_instant_is_in_order():
    batch = torch.rand(2, 2, 3, 3, requires_grad=True)
    images = in_batch_order([batch], [torch.arange(2)])
    assert torch.equal(images, batch) and not images.requires_grad
