"""Simulators of identity providers: objects that hold what the provider believes, and push it over SCIM as it would.

company, life    a made-up company and what happens in it; the same for a seed, whatever the provider
idp              what the simulators share: belief, intents (assign, update, deactivate, ...), retries
okta, entra, onelogin   each provider's own requests
wire             one provider's HTTP: headers, encoding of queries, patience; and what it measured
play             a whole script: initial sync, then life at a pace, then the check
check            the directory, read back over SCIM, against the belief
report           progress and summary for people
demo             `make demo`: a stack, four providers, one summary

wire = Wire(http, token)
okta = Okta(wire)
result = await play(okta, make_company(500, seed=7, domain="okta.quillmoor.example"), pace=20)
assert not result.differences
"""
