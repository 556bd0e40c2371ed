"""ServiceRegistryService, put together of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from marketplace.certification import RUN_AGE_MAX
from marketplace.certification_servicer import CertificationServicer
from marketplace.conformance_runner import ConformanceRunner
from marketplace.endpoint_policy import EndpointCheck
from marketplace.proposal_compiler import ProposalCompiler
from marketplace.service_content import ContentLimits
from marketplace.service_content_servicer import ServiceContentServicer
from marketplace.service_content_specification import ServiceSpecificationServicer
from marketplace.service_registry_servicer import ServiceRegistryServicer, new_id
from marketplace.storage_command import Commands


@dataclass(frozen=True, slots=True)
class RegistryParts:
    """What the parts of the registry work with beside the database."""

    runner: ConformanceRunner
    #: Which endpoints may be registered.
    endpoints: EndpointCheck = field(default_factory=EndpointCheck)
    content: ContentLimits = field(default_factory=ContentLimits)
    #: Age at which a conformance run certifies no more.
    run_age_max: timedelta = RUN_AGE_MAX
    publication_needs_operator: bool = False
    publication_needs_certification: bool = False


class ServiceRegistry(
    ServiceRegistryServicer,
    CertificationServicer,
    ServiceContentServicer,
    ServiceSpecificationServicer,
):
    """Serves `gem.marketplace.v1.ServiceRegistryService`; each part is a class of its own."""

    def __init__(
        self, commands: Commands, parts: RegistryParts, make_id: Callable[[], str] = new_id
    ) -> None:
        compiler = ProposalCompiler()
        ServiceRegistryServicer.__init__(
            self,
            commands,
            make_id,
            endpoints=parts.endpoints,
            publication_needs_operator=parts.publication_needs_operator,
            publication_needs_certification=parts.publication_needs_certification,
            compiler=compiler,
        )
        CertificationServicer.__init__(self, commands, parts.runner, make_id, parts.run_age_max)
        ServiceContentServicer.__init__(self, commands, make_id, parts.content)
        ServiceSpecificationServicer.__init__(self, commands, compiler)
