"""Compiles a published descriptor set into the rules that the router works by.

Feature 978, use case 1485: an interface is what its files say. The marketplace has no code for any
interface of its own; what a call does follows from the options in the files.
"""

from __future__ import annotations

from operator import attrgetter

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message_factory import GetMessageClass
from protovalidate import CompilationError, EvaluationError, Validator

from gem.options.v1 import options_pb2
from gem.options.v1.options_pb2 import Route
from marketplace.router import catalogue_rules
from marketplace.router.descriptor_files import compile_files
from marketplace.router.findings import Findings
from marketplace.router.merge_compile import compile_counter, compile_merge
from marketplace.router.merge_plan import MergePlan
from marketplace.router.method_rules import InterfaceRules, MethodRules, RouteKeyField
from marketplace.router.options import method_options, standard_interface_of
from marketplace.router.plain_check import PlainCheck, compile_plain_check, shows_nothing
from marketplace.router.quick_check import KeepsRules, QuickChecks, in_doubt
from marketplace.router.route_keys import compile_route_key
from marketplace.router.stamps import compile_stamper
from marketplace.router.units import UnitReaders

__all__ = ["InterfaceRules", "MethodRules", "RouteKeyField", "compile_interface"]

_ROUTES = {Route.ROUTE_ONE, Route.ROUTE_ALL, Route.ROUTE_FIRST, Route.ROUTE_BY_KEY}


def compile_interface(descriptor_set: bytes) -> tuple[InterfaceRules, ...]:
    """Compile a serialised `FileDescriptorSet`: one result per service that is an interface.

    The set is taken as hostile: bounded, compiled in a pool of its own, the marketplace's own files
    replaced by the marketplace's. Takes milliseconds to a second; not for the event loop.

    Raises:
        MarketError: INTERFACE_INVALID; the violations name file, element and rule.
    """
    files = compile_files(descriptor_set)
    findings = Findings()
    services = [
        service
        for file in files.published
        for service in file.services_by_name.values()
        if standard_interface_of(service) is not None
    ]
    if not services:
        findings.add("", "set.interface", "no service has the option standard_interface")
    compiler = _Compiler(findings)
    compiled = [compiler.service(service, files.descriptor_set) for service in services]
    findings.check()
    return tuple(sorted(compiled, key=attrgetter("name")))


class _Compiler:
    """Compiles the services of one set; findings go into `findings`, never out as exceptions."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._validator = Validator()
        self._types = catalogue_rules.TypeCheck(findings)
        self._quick = QuickChecks(self._validator)
        self._checks: dict[str, PlainCheck] = {}
        self._sound: dict[str, bool] = {}

    def service(self, service: ServiceDescriptor, descriptor_set: bytes) -> InterfaceRules:
        catalogue_rules.check_service(service, self._findings)
        said = standard_interface_of(service)
        assert said is not None, "only standard interfaces are compiled"
        if not service.methods:
            self._findings.about(service, "service.methods", "an interface has at least one method")
        methods = [
            self._method(method)
            for method in service.methods
            if self._types.are_bounded(method.input_type, method.output_type)
        ]
        return InterfaceRules(
            name=service.full_name,
            title=said.title,
            category=said.category,
            implemented_by=frozenset(said.implemented_by),
            called_by=frozenset(said.called_by),
            methods={method.path: method for method in methods},
            descriptor_set=descriptor_set,
        )

    def _method(self, method: MethodDescriptor) -> MethodRules:
        request, response = method.input_type, method.output_type
        route = self._route(method)
        answers = self._answers_field(method, route)
        answers_name = answers.name if answers is not None else None
        return MethodRules(
            path=f"/{method.containing_service.full_name}/{method.name}",
            interface=method.containing_service.full_name,
            route=route,
            route_key=compile_route_key(method, route, self._findings),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            side_effects=self._has_side_effects(method),
            request_class=GetMessageClass(request),
            response_class=GetMessageClass(response),
            keeps_rules=self._quick_check(request),
            stamp=compile_stamper(response),
            merge_plan=self._merge_plan(method, route, answers_name),
            answers_field=answers_name,
            count_items=compile_counter(response, answers_name),
            plain_check=self._plain_check(response),
            validator=self._validator,
            unit_readers=UnitReaders(response, answers_name),
        )

    def _merge_plan(
        self, method: MethodDescriptor, route: int, answers_field: str | None
    ) -> MergePlan | None:
        request, response = method.input_type, method.output_type
        if route == Route.ROUTE_ALL and not method.server_streaming:
            return compile_merge(request, response, answers_field, self._findings)
        catalogue_rules.check_no_merge(response, self._findings)
        return None

    def _route(self, method: MethodDescriptor) -> int:
        options = method_options(method)
        if options.Extensions[options_pb2.access]:
            self._findings.about(
                method, "method.access", "access is for core services; contracts govern interfaces"
            )
        route = int(options.Extensions[options_pb2.route]) or Route.ROUTE_ONE
        if route not in _ROUTES:
            self._findings.about(method, "method.route", "this route does not exist")
        if method.client_streaming and route in {Route.ROUTE_ALL, Route.ROUTE_FIRST}:
            self._findings.about(
                method, "method.client_streaming", "a stream of requests goes to one provider only"
            )
        return route

    def _has_side_effects(self, method: MethodDescriptor) -> bool:
        level = method_options(method).idempotency_level
        if level == descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN:
            self._findings.about(
                method, "method.idempotency_level", "say NO_SIDE_EFFECTS or IDEMPOTENT"
            )
        return level != descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS

    def _rules_run(self, message: Descriptor) -> bool:
        """Say whether the rules of a type and of all below it can be run at all."""
        types = catalogue_rules.types_below(message)
        for name, each in types.items():
            if name not in self._sound:
                self._sound[name] = self._own_rules_run(each)
        return all(self._sound[name] for name in types)

    def _own_rules_run(self, message: Descriptor) -> bool:
        try:
            self._validator.collect_violations(GetMessageClass(message)())
        except (CompilationError, EvaluationError):
            self._findings.about(
                message, "rules.compile", "a rule does not compile, or fails for an empty message"
            )
            return False
        except ValueError:  # protovalidate has a pool of its own, which takes less than ours
            self._findings.about(message, "file.compiles", "the file is no valid proto3")
            return False
        return True

    def _answers_field(self, method: MethodDescriptor, route: int) -> FieldDescriptor | None:
        response = method.output_type
        found = [
            field
            for field in response.fields
            if field.is_repeated
            and field.message_type is not None
            and field.message_type.full_name == catalogue_rules.ANSWER_TYPE
        ]
        allowed = found[0] if route == Route.ROUTE_ALL and len(found) == 1 else None
        catalogue_rules.check_answer_type(response, allowed, self._findings)
        if route == Route.ROUTE_ALL and allowed is None:
            self._findings.about(
                response,
                "response.provider_answers",
                "the response of a ROUTE_ALL method has one repeated gem.mesh.v1.ProviderAnswer",
            )
        return allowed

    def _quick_check(self, request: Descriptor) -> KeepsRules:
        # What is refused already is not run, for its rules may be of any size.
        if self._findings or not self._rules_run(request):
            return in_doubt
        return self._quick.compiled(request)

    def _plain_check(self, response: Descriptor) -> PlainCheck:
        if self._findings or not self._rules_run(response):
            return shows_nothing
        name = response.full_name
        if name not in self._checks:
            self._checks[name] = compile_plain_check(response, self._validator)
        return self._checks[name]
