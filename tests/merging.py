"""An interface with every merge rule, and answers to it, for the tests of merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.router.merge import merge
from marketplace.router.method_rules import MethodRules
from marketplace.router.target import Answer, Price, Target
from marketplace.router.verify import verified
from tests.interfaces import method, rpc, service

BODY = """
enum Order {
  ORDER_UNSPECIFIED = 0;
  ORDER_SIZE = 1 [(gem.options.v1.order_by_value) = { order_by: ["size desc", "name"] }];
  ORDER_LEVEL = 2 [(gem.options.v1.order_by_value) = { order_by: "level" }];
  ORDER_LEVEL_DOWN = 3 [(gem.options.v1.order_by_value) = { order_by: "level desc" }];
  ORDER_TIME = 4 [(gem.options.v1.order_by_value) = { order_by: ["at desc", "inner.size"] }];
  ORDER_SHARE = 5 [(gem.options.v1.order_by_value) = { order_by: "share desc" }];
}
message Ask { Order order = 1; int32 limit = 2; }
message Inner { sint64 size = 1; }
message Item {
  string name = 1;
  int32 size = 2;
  string provider_id = 3 [(gem.options.v1.stamp) = STAMP_PROVIDER_ID];
  string contract_id = 4 [(gem.options.v1.stamp) = STAMP_CONTRACT_ID];
  optional int32 level = 5;
  google.protobuf.Timestamp at = 6;
  Inner inner = 7;
  double share = 8;
}
message Quote { google.protobuf.Timestamp at = 1; string text = 2; }
message Found {
  repeated Item plain = 1;
  repeated Item own = 2 [(gem.options.v1.merge) = { distinct_by: ["name", "provider_id"] }];
  repeated Item any = 3 [(gem.options.v1.merge) = { distinct_by: ["name", "level", "at"] }];
  repeated Item sorted = 4 [(gem.options.v1.merge) = {
    order_by: "name" order_from: "order" limit_from: "limit"
  }];
  repeated string texts = 5 [(gem.options.v1.merge) = { limit_from: "limit" }];
  repeated gem.mesh.v1.ProviderAnswer answers = 6;
  int32 sum32 = 7 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  int64 sum64 = 8 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  uint32 sumu32 = 9 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  uint64 sumu64 = 10 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  float sumf = 11 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  double sumd = 12 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  optional int32 sumo = 13 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  int32 least = 14 [(gem.options.v1.merge) = { rule: MERGE_RULE_MIN }];
  optional int32 least_set = 15 [(gem.options.v1.merge) = { rule: MERGE_RULE_MIN }];
  double most = 16 [(gem.options.v1.merge) = { rule: MERGE_RULE_MAX }];
  google.protobuf.Timestamp last = 17 [(gem.options.v1.merge) = { rule: MERGE_RULE_MAX }];
  string first = 18 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
  Item first_item = 19 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
  bool any_true = 20 [(gem.options.v1.merge) = { rule: MERGE_RULE_ANY }];
  bool all_true = 21 [(gem.options.v1.merge) = { rule: MERGE_RULE_ALL_TRUE }];
  optional bool all_set = 22 [(gem.options.v1.merge) = { rule: MERGE_RULE_ALL_TRUE }];
  google.protobuf.Timestamp newest = 23 [(gem.options.v1.merge) = { rule: MERGE_RULE_LATEST }];
  Quote quote = 24 [(gem.options.v1.merge) = { rule: MERGE_RULE_LATEST order_by: "at" }];
  optional bool any_set = 25 [(gem.options.v1.merge) = { rule: MERGE_RULE_ANY }];
  bytes raw = 26 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
}
""" + service(rpc())
OK = AnswerStatus.ANSWER_STATUS_OK
FAILED: Mapping[int, int] = {
    AnswerStatus.ANSWER_STATUS_TIMED_OUT: ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
    AnswerStatus.ANSWER_STATUS_UNREACHABLE: ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
    AnswerStatus.ANSWER_STATUS_INVALID_ANSWER: ErrorReason.ERROR_REASON_ANSWER_INVALID,
    AnswerStatus.ANSWER_STATUS_EJECTED: ErrorReason.ERROR_REASON_PROVIDER_EJECTED,
}


def search() -> MethodRules:
    return method(BODY)


def target(number: int) -> Target:
    return Target(f"contract-{number}", f"provider-{number}", "s", f"1.{number}", "h:1", Price())


def good(number: int, raw: bytes) -> Answer:
    checked = verified(search(), target(number), raw)
    return Answer(
        target(number),
        OK,
        message=checked.message,
        canonical=checked.canonical,
        item_count=search().count_items(checked.message),
        latency_us=7,
    )


def bad(number: int, status: int = AnswerStatus.ANSWER_STATUS_TIMED_OUT, code: int = 4) -> Answer:
    return Answer(target(number), status, reason=FAILED.get(status, 0), code=code)


def found(**fields: Any) -> bytes:
    raw: bytes = search().response_class(**fields).SerializeToString()
    return raw


def merged(*raws: bytes, **ask: Any) -> Any:
    answers = [good(number, raw) for number, raw in enumerate(raws)]
    return merge(search(), search().request_class(**ask), answers)


def names(elements: Sequence[Any]) -> list[str]:
    return [each.name for each in elements]
