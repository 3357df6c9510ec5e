"""What ranks tell each other and agree on: in one process nothing, on two ranks what each function says."""

import pytest
import torch
from ranks import on_two_ranks
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from rl_nnunet.distributed import (
    all_agree,
    average_gradients,
    drawn_alike,
    gather,
    leave_to_agents,
    rank,
    share_parameters,
    shares,
    sum_over_ranks,
    summed_over_ranks,
    use_every_parameter,
    world_size,
)


class WithPolicy(nn.Module):
    """A used layer, an unused one, a policy that no loss trains, and a buffer."""

    def __init__(self):
        super().__init__()
        self.used, self.unused, self.policy = (nn.Linear(2, 1) for _ in range(3))
        self.register_buffer("constant", torch.zeros(3))

    def forward(self, x):
        return self.used(x)


class Mean(nn.Module):
    def forward(self, output):
        return output.mean()


@pytest.fixture
def alone(tmp_path):
    """A group of one rank, in this process."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_one_process_has_what_it_is_given():
    value, tensor = {"a": torch.ones(2)}, torch.ones(2)
    assert (rank(), world_size()) == (0, 1)
    assert gather(value)[0] is value
    assert summed_over_ranks(tensor) is tensor
    assert sum_over_ranks([1, 2.5]) == [1, 2.5]
    assert (all_agree(True), all_agree(False)) == (True, False)
    assert shares([4, 0, 1]) == [1, None, 1]
    before = torch.get_rng_state()
    with drawn_alike():
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_ddp_knows_neither_policies_nor_buffers(alone, is_compiled):
    network = WithPolicy()
    leave_to_agents(network, ["policy.weight", "policy.bias"])
    ddp = DistributedDataParallel(torch.compile(network) if is_compiled else network)
    parameters, _ = ddp._build_params_for_reducer()
    assert {id(p) for p in parameters} == {
        id(p) for layer in (network.used, network.unused) for p in layer.parameters()
    }
    assert ddp.modules_buffers == []


def test_every_parameter_of_the_network_has_a_gradient_but_those_of_policies():
    network, loss = WithPolicy(), Mean()
    leave_to_agents(network, ["policy.weight", "policy.bias"])
    use_every_parameter(loss, network)
    loss(network(torch.ones(4, 2))).backward()
    assert not network.unused.weight.grad.any()
    assert network.used.weight.grad.any()
    assert network.policy.weight.grad is None
    with torch.no_grad():
        assert float(loss(torch.ones(4))) == 1


def work():
    """Return what this rank gets."""
    torch.manual_seed(10 + rank())
    layer = nn.Linear(1, 1)
    torch.manual_seed(rank())
    first = torch.rand(())
    with drawn_alike():
        common = torch.rand(3)
    layer(torch.full((1, 1), 1.0 + rank())).sum().backward()
    average_gradients(layer.parameters())
    gradient = layer.weight.grad.clone()
    share_parameters(layer)
    return {
        "first": first,
        "common": common,
        "next": torch.rand(()),
        "gathered": gather({"rank": torch.tensor(rank())}),
        "shares": shares([3 * rank(), 0, 1]),
        "sums": (sum_over_ranks([rank(), 2]), summed_over_ranks(torch.tensor([rank(), 5])).tolist()),
        "agree": (all_agree(True), all_agree(rank() == 0)),
        "gradient": gradient,
        "weight": layer.weight.detach(),
    }


@pytest.mark.slow
def test_two_ranks(tmp_path):
    first, second = on_two_ranks(work, tmp_path)
    assert torch.equal(first["common"], second["common"])
    for number, one in enumerate((first, second)):  # outside of the block, each draws its own
        torch.manual_seed(number)
        assert one["first"] == torch.rand(())
        if number == 0:
            assert torch.equal(one["common"], torch.rand(3))
        assert one["next"] == torch.rand(())
        assert [int(value["rank"]) for value in one["gathered"]] == [0, 1]
        assert one["sums"] == ([1, 4], [1, 10])
        assert one["agree"] == (True, False)
        assert float(one["gradient"]) == 1.5
    assert first["shares"] == [0, None, 1]
    assert second["shares"] == [2, None, 1]
    assert torch.equal(first["weight"], second["weight"])
