"""The roles of variables: which of them an untrained network has, and the texts that users see."""

from models.roles import Role, Slot


def test_what_a_training_adds_is_not_of_the_network():
    assert [role for role in Role if not role.is_of_network] == [Role.LOSS_SCALE, Role.STEP]
    assert not Slot('adam').is_of_network


def test_a_slot_is_told_with_its_optimiser():
    assert Slot('adam').text == 'slot of adam' != Slot('momentum').text
    assert Slot('adam') == Slot('adam') != Slot('momentum')
    assert Role.LOSS_SCALE.text == 'slot of the loss scale'
    assert len({role.text for role in Role}) == len(Role)
