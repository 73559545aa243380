// What a template from strangers may do, what it may not, and what is said of it.
#include "launcher/chat/jinja/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <functional>
#include <optional>
#include <thread>

#include "launcher/json/json.h"

namespace sluice::launcher::jinja {
namespace {

using Kind = TemplateError::Kind;
using testing::HasSubstr;

std::string render(const std::string& source, const Json& variables = Json::object(),
                   const Limits& limits = {}) {
  return Template(source, "file.jinja").render(variables, {}, limits);
}

/// The error of a template that must have one, and its line.
void expect_error(const std::string& source, Kind kind, int line, const std::string& part,
                  const Json& variables = Json::object(), const Limits& limits = {}) {
  try {
    ADD_FAILURE() << source << " gave " << render(source, variables, limits).substr(0, 200);
  } catch (const TemplateError& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    EXPECT_EQ(error.line(), line) << error.what();
    EXPECT_THAT(error.message(), HasSubstr(part));
    EXPECT_EQ(error.what(), "file.jinja, line " + std::to_string(line) + ": " + error.message());
  }
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

TEST(Template, ErrorsSayTheLine) {
  expect_error("a\n{% if x %}\n{{ 1 +\n }}", Kind::syntax, 4, "unexpected '}}'");
  expect_error("a\n\n{% if x %}b", Kind::syntax, 3, "{% endif %}");
  expect_error("{{ 'a\n\nb }}", Kind::syntax, 1, "quotation marks");
  expect_error("a\n{# b", Kind::syntax, 2, "#}");
  expect_error("\n\n{% fi %}", Kind::syntax, 3, "no tag 'fi'");
  expect_error("{% for x in y %}\n{% endif %}", Kind::syntax, 2, "endfor");
  expect_error("{% set x = 1 %}\n{{ x.y.z }}", Kind::failed, 2,
               "'int object' has no attribute 'y'");
  expect_error("{% macro m() %}\n\n{{ a + 1 }}{% endmacro %}\n\n{{ m() }}", Kind::failed, 3,
               "'a' is undefined");
  expect_error("\n{{ raise_exception('no: ' ~ 3) }}", Kind::raised, 2, "no: 3");
  expect_error("{{ 'a'\n ~ (1\n + 'b') }}", Kind::failed, 2, "unsupported operand");
}

TEST(Template, WhatIsNotSupportedIsNamed) {
  expect_error("a\n{% include 'b' %}", Kind::unsupported, 2, "the tag 'include'");
  expect_error("\n{{ x | urlize }}", Kind::unsupported, 2, "the filter 'urlize'");
  expect_error("\n{{ x | nonsense }}", Kind::unsupported, 2, "the filter 'nonsense'");
  expect_error("{% if 1 %}\n{{ x is nonsense }}{% endif %}", Kind::unsupported, 2, "'nonsense'");
  expect_error("{{ 'a'.encode() }}", Kind::unsupported, 1, "'encode' of 'str'");
  expect_error("{{ f(*a) }}", Kind::unsupported, 1, "'*'");
  expect_error("{% for x in y recursive %}{% endfor %}", Kind::unsupported, 1, "recursive");
  expect_error("{{ 99999999999999999999 }}", Kind::unsupported, 1, "64 bits");
  expect_error("{{ 9223372036854775807 + 1 }}", Kind::unsupported, 1, "64 bits");
  expect_error("{{ [1] | map('e') | list }}", Kind::unsupported, 1, "'e'");
}

/// As in Jinja: published templates ask for a filter that only some servers have.
TEST(Template, AFilterThatIsNotUsedMayBeUnknown) {
  EXPECT_EQ(render("{% if 'from_json' is filter %}{{ x | from_json }}{% else %}none{% endif %}"),
            "none");
  EXPECT_EQ(render("{{ (x | nonsense) if no else (1 is number or 2 is nonsense) }}"), "True");
}

TEST(Template, TheSandboxIsThatOfTransformers) {
  for (const char* change : {"append(1)", "pop()", "clear()", "sort()", "extend([1])"}) {
    expect_error("{% set x = [] %}{% set _ = x." + std::string(change) + " %}", Kind::failed, 1,
                 "of 'list' object is unsafe.");
  }
  expect_error("{% set x = {} %}{% set _ = x.update({'a': 1}) %}", Kind::failed, 1,
               "access to attribute 'update' of 'dict' object is unsafe.");
  expect_error("{{ ''.__class__.__mro__ }}", Kind::failed, 1, "unsafe");
}

TEST(Template, LoopsWithoutEndAreStopped) {
  Limits few;
  few.steps = 1'000'000;
  const std::string inner =
      "{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}";
  expect_error("\n{% for a in range(99999) %}\n" + inner + "{% endfor %}", Kind::limit, 3, "steps",
               {}, few);
  expect_error("{{ range(100001) }}", Kind::limit, 1, "MAX_RANGE");
  expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", Kind::limit, 1, "too deeply");
  expect_error("{% macro f(n) %}{{ f(n + 1) ~ f(n + 1) }}{% endmacro %}{{ f(0) }}", Kind::limit, 1,
               "too deeply");
  // Each costs little by itself, all of them together more than there is.
  expect_error(
      "{% set t = 'a' * 100000 %}{% for a in range(99999) %}{% if 'aab' in t %}{% endif %}"
      "{% set u = t | upper %}{% endfor %}",
      Kind::limit, 1, "steps", {}, few);
  // Searches whose time is the product of both lengths.
  expect_error("{% set t = 'a' * 20000000 %}{{ t.rfind('b' + 'a' * 10000000) }}", Kind::limit, 1,
               "steps", {}, few);
  EXPECT_EQ(render("{% set t = 'a' * 20000000 %}{{ t.find('b' + 'a' * 10000000) }}"), "-1");
}

TEST(Template, MemoryIsBounded) {
  Limits few;
  few.steps = 1'000'000;
  few.live_bytes = 16 << 20;
  expect_error("{{ 'a' * 99999999999 }}", Kind::limit, 1, "bytes", {}, few);
  expect_error("{{ [1] * 99999999999 }}", Kind::limit, 1, "bytes", {}, few);
  expect_error(
      "{% set n = namespace(x='aaaaaaaa') %}{% for a in range(99) %}"
      "{% set n.x = n.x ~ n.x %}{% endfor %}",
      Kind::limit, 1, "bytes", {}, few);
  expect_error(
      "{% set n = namespace(x=[]) %}{% for a in range(99999) %}"
      "{% set n.x = [n.x, 'a' * 10000] %}{% endfor %}",
      Kind::limit, 1, "levels deep", {}, few);
  expect_error(
      "{% set n = namespace(x=[], y=0) %}{% for a in range(99999) %}"
      "{% set n.x = n.x + ['a' * 10000 ~ a] %}{% endfor %}",
      Kind::limit, 1, "", {}, few);
  // A small value whose text is huge.
  expect_error(
      "{% set n = namespace(x=['aaaaaaaa']) %}{% for a in range(60) %}"
      "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
      Kind::limit, 1, "", {}, few);
  expect_error(
      "{% set n = namespace(x=['aaaaaaaa']) %}{% for a in range(60) %}"
      "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}",
      Kind::limit, 1, "", {}, few);
  expect_error("{{ '%999999999d' % 1 }}", Kind::limit, 1, "characters", {}, few);
  expect_error("{{ '{:>999999999}'.format(1) }}", Kind::limit, 1, "characters", {}, few);
  expect_error("{{ 'a' | center(9999999999) }}", Kind::limit, 1, "", {}, few);
  expect_error("{{ 'a' | indent(9999999999) }}", Kind::limit, 1, "", {}, few);
  Limits small;
  small.output_bytes = 1000;
  EXPECT_EQ(render("{{ 'a' * 1000 }}", {}, small).size(), 1000U);
  expect_error("{{ 'a' * 1000 }}\nb", Kind::limit, 1, "more than 1000 bytes", {}, small);
  // Texts that are under way at the same time count together.
  expect_error(
      "{% macro m() %}{{ 'a' * 600 }}{% set x %}{{ 'b' * 600 }}{% endset %}{% endmacro %}"
      "{{ m() }}",
      Kind::limit, 1, "more than 1000 bytes", {}, small);
}

TEST(Template, WhatARunTookIsGivenBack) {
  Limits small;
  small.live_bytes = 1 << 20;
  EXPECT_EQ(render("{% for a in range(1000) %}{% set t = 'a' * 100000 %}{% endfor %}x", {}, small),
            "x");
}

TEST(Template, NestedSourceIsBounded) {
  expect_error("{{ " + repeated("(", 10000) + repeated(")", 10000) + " }}", Kind::limit, 1,
               "levels deep");
  expect_error("{{ " + repeated("[", 10000) + repeated("]", 10000) + " }}", Kind::limit, 1,
               "levels deep");
  expect_error("{{ " + repeated("not ", 100000) + "1 }}", Kind::limit, 1, "levels deep");
  expect_error("{{ " + repeated("-", 100000) + "1 }}", Kind::limit, 1, "levels deep");
  expect_error(repeated("{% if 1 %}", 100000), Kind::limit, 1, "levels deep");
  expect_error("{{ 1" + repeated(" + 1", 100000) + " }}", Kind::limit, 1, "operators deep");
  expect_error("{{ a" + repeated(".a", 100000) + " }}", Kind::limit, 1, "operators deep");
  expect_error("{{ a" + repeated("|abs", 100000) + " }}", Kind::limit, 1, "operators deep");
  expect_error("{{ a" + repeated(" if b else c", 100000) + " }}", Kind::limit, 1, "deep");
  expect_error("{% set " + repeated("(", 10000) + repeated(")", 10000) + " %}", Kind::limit, 1,
               "levels deep");
  EXPECT_EQ(render("{{ 1" + repeated(" ~ 1", 1000) + " }}").size(), 1001U);
  EXPECT_EQ(render("{{ 0" + repeated(" or 0", 1000) + " or 7 }}"), "7");
  EXPECT_EQ(render(repeated("{{ 1 }}", 10000)).size(), 10000U);
}

/// The deepest that a template may go fits on a thread's stack, where rows are read.
TEST(Template, TheDeepestRecursionFitsOnAThreadsStack) {
  std::thread([] {
    expect_error(
        "{% macro f(n) %}{% if 1 %}{% for x in [1] %}{{ '' ~ f([n]|length) }}{% endfor %}"
        "{% endif %}{% endmacro %}{{ f(0) }}",
        Kind::limit, 1, "too deeply");
    const std::string sum = "1" + repeated(" + 1", 400);
    expect_error("{% macro f(n) %}{{ " + sum + " + f(1) }}{% endmacro %}{{ f(0) }}", Kind::limit, 1,
                 "too deeply");
    EXPECT_EQ(render("{{ " + sum + " }}"), "401");
  }).join();
}

TEST(Template, MacrosReachAsDeepAsSchemasDo) {
  Json schema = {{"type", "string"}};
  for (int i = 0; i < 25; ++i) schema = Json({{"type", "array"}, {"items", schema}});
  const std::string source =
      "{%- macro type(s) -%}{%- if s.type == 'array' -%}{%- if s['items'] -%}"
      "{{ type(s['items']) + '[]' }}{%- endif -%}{%- else -%}{{ s.type }}{%- endif -%}"
      "{%- endmacro -%}{{ type(schema) }}";
  EXPECT_EQ(render(source, {{"schema", schema}}), "string" + repeated("[]", 25));
}

/// Namespaces, loops, macros and bound methods that hold each other: no leak, no endless chain.
TEST(Template, ValuesThatHoldEachOther) {
  EXPECT_EQ(render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}"
                   "{% set a.a = [a, {'b': b}] %}{{ a.b.a.b.a is defined }}"),
            "True");
  EXPECT_EQ(render("{% set n = namespace() %}{% for x in [1, 2] %}{% set n.loop = loop %}"
                   "{% macro m() %}{{ x }}{% endmacro %}{% set n.m = m %}{% endfor %}{{ n.m() }}"),
            "2");
  expect_error(
      "{% set n = namespace(x=[]) %}{% for a in range(99999) %}"
      "{% set n.x = [n.x.index] %}{% endfor %}",
      Kind::limit, 1, "levels deep");
  expect_error(
      "{% set n = namespace(x=[]) %}{% for a in range(99999) %}"
      "{% for b in [n.x] %}{% set n.x = loop %}{% endfor %}{% endfor %}",
      Kind::limit, 1, "levels deep");
  expect_error("{% set n = namespace() %}{% for a in [1] %}{{ loop.changed(loop) }}{% endfor %}",
               Kind::unsupported, 1, "changed");
  expect_error("{% set n = namespace() %}{% set n.n = n %}{{ n }}", Kind::unsupported, 1,
               "Namespace");
}

TEST(Template, BrokenAndHugeSources) {
  EXPECT_EQ(render("a\xFF{{ 'b\xC3' }}"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(render(""), "");
  EXPECT_EQ(render("\n"), "");
  EXPECT_THROW(Template(std::string(5 << 20, 'a'), "huge"), TemplateError);
}

TEST(Template, TheDateIsThatOfTheCaller) {
  std::tm day = {};
  day.tm_year = 124;
  day.tm_mon = 6;
  day.tm_mday = 26;
  day.tm_hour = 12;
  day.tm_isdst = -1;
  const auto now = std::chrono::system_clock::from_time_t(std::mktime(&day));
  const Template made("{{ strftime_now('%d %b %Y') }}|{{ strftime_now('') }}", "test");
  EXPECT_EQ(made.render(Json::object(), now), "26 Jul 2024|");
  const Template cut("{{ strftime_now(format) }}", "test");
  EXPECT_EQ(cut.render({{"format", std::string("\u00e9\0d", 4)}}, now), "\u00e9");
}

TEST(Template, ThreadsShareOne) {
  const Template made("{% for x in xs %}{{ x | upper ~ 'é' }}{% endfor %}", "test");
  const Json variables = {{"xs", Json::array({"a", "b", "c"})}};
  std::vector<std::thread> threads;
  std::vector<std::string> texts(4);
  for (std::string& text : texts) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) text = made.render(variables, {});
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, "AéBéCé");
}

}  // namespace
}  // namespace sluice::launcher::jinja
