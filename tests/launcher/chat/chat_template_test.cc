#include "launcher/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "kernels/device/error.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

class ChatTemplateTest : public testing::Test {
 protected:
  ChatTemplate open() const { return ChatTemplate::open(folder_.path(), tokenizer_); }
  std::string render(const Json& row) const { return open().render(read_chat(row)); }
  std::string render() const { return render({{"messages", hi_}}); }
  static std::string error_of(const std::function<void()>& act) {
    try {
      act();
    } catch (const InputError& error) {
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  support::ModelFolder folder_;
  Tokenizer tokenizer_ = support::small_tokenizer();
  Json hi_ = Json::parse(R"([{"role": "user", "content": "hi"}])");
};

TEST_F(ChatTemplateTest, AFolderWithoutATemplateSaysWhatToDo) {
  EXPECT_THAT(error_of([&] { open().check(); }), HasSubstr(folder_.path().string()));
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("chat_template.jinja"));
  folder_.write("tokenizer_config.json", "{}");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("no chat template"));
}

TEST_F(ChatTemplateTest, TheFileWinsOverTheKey) {
  folder_.write("tokenizer_config.json", R"({"chat_template": "key {{ messages[0].content }}"})");
  EXPECT_EQ(render(), "key hi");
  folder_.write("chat_template.jinja", "file {{ messages[0].content }}\n");
  EXPECT_EQ(render(), "file hi");
}

TEST_F(ChatTemplateTest, OfNamedOnesToolsChoose) {
  folder_.write("tokenizer_config.json", R"({"chat_template": [
      {"name": "default", "template": "default {{ tools }}"},
      {"name": "tool_use", "template": "tools {{ tools | length }}"},
      {"name": "rag", "template": "{% a template nobody asks for"}]})");
  EXPECT_EQ(render(), "default None");
  EXPECT_EQ(render({{"messages", hi_}, {"tools", Json::array({1, 2})}}), "tools 2");
  EXPECT_EQ(render({{"messages", hi_}, {"tools", Json::array()}}), "tools 0");  // it is given
  EXPECT_EQ(render({{"messages", hi_}, {"tools", nullptr}}), "default None");
  folder_.write("tokenizer_config.json",
                R"({"chat_template": [{"name": "tool_use", "template": "x"}]})");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("conversations with tools"));
}

TEST_F(ChatTemplateTest, FilesMayBeNamedToo) {
  std::filesystem::create_directory(folder_.path() / "additional_chat_templates");
  folder_.write("chat_template.jinja", "default");
  folder_.write("additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(render(), "default");
  EXPECT_EQ(render({{"messages", hi_}, {"tools", Json::array({1})}}), "tools");
}

TEST_F(ChatTemplateTest, SpecialTokensAreVariables) {
  folder_.write("chat_template.jinja",
                "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token is defined }}|"
                "{{ image_token }}");
  EXPECT_EQ(render(), "</s>|</s>|<pad>|False|");  // the tokenizer's own
  folder_.write("tokenizer_config.json", R"({"bos_token": null, "eos_token": {"content": "<e>"},
      "extra_special_tokens": {"image_token": "<i>"}})");
  folder_.write("special_tokens_map.json", R"({"bos_token": "<b>", "eos_token": "<x>",
      "unk_token": "<u>"})");
  EXPECT_EQ(render(), "|<e>|<pad>|True|<i>");
}

TEST_F(ChatTemplateTest, WhatTheTemplateIsTold) {
  folder_.write("chat_template.jinja",
                "{{ add_generation_prompt }} {{ documents }} {{ enable_thinking is defined }} "
                "{{ enable_thinking }} {{ bos_token }}");
  EXPECT_EQ(render(), "True None False  </s>");
  EXPECT_EQ(render({{"messages", hi_},
                    {"add_generation_prompt", false},
                    {"chat_template_kwargs", {{"enable_thinking", false}, {"bos_token", "b"}}}}),
            "False None True False b");
}

TEST_F(ChatTemplateTest, ATemplateThatIsWrongIsToldWhenItIsUsed) {
  folder_.write("chat_template.jinja", "a\n{% nonsense %}");
  EXPECT_THAT(error_of([&] { open().check(); }), HasSubstr("chat_template.jinja, line 2: "));
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("nonsense"));
  folder_.write("chat_template.jinja", "{{ raise_exception('only cats') }}");
  EXPECT_EQ(error_of([&] { render(); }),
            "the model's chat template refuses the messages: only cats");
  folder_.write("chat_template.jinja", "\n{{ 1 + messages }}");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("chat_template.jinja, line 2: unsupported"));
  folder_.write("chat_template.jinja", "ok");
  folder_.write("tokenizer_config.json", "{");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("tokenizer_config.json"));
  folder_.write("tokenizer_config.json", "[]");
  EXPECT_THAT(error_of([&] { render(); }), HasSubstr("no JSON object"));
  std::filesystem::remove(folder_.path() / "chat_template.jinja");
  for (const char* key : {"3", R"([{"name": "default"}])", R"(["text"])"}) {
    folder_.write("tokenizer_config.json", std::string("{\"chat_template\": ") + key + "}");
    EXPECT_THAT(error_of([&] { render(); }), HasSubstr("chat_template")) << key;
  }
}

TEST_F(ChatTemplateTest, FieldsAreChecked) {
  const auto field_of = [](const std::string& row) {
    try {
      read_chat(Json::parse(row));
    } catch (const ChatFieldError& error) {
      EXPECT_FALSE(std::string(error.what()).empty());
      return error.field;
    }
    return std::string();
  };
  EXPECT_EQ(field_of("{}"), "messages");
  EXPECT_EQ(field_of(R"({"messages": []})"), "messages");
  EXPECT_EQ(field_of(R"({"messages": "hi"})"), "messages");
  EXPECT_EQ(field_of(R"({"messages": ["hi"]})"), "messages");
  EXPECT_EQ(field_of(R"({"messages": [{"content": "hi"}]})"), "messages");
  const std::string hi = R"("messages": [{"role": "user", "content": "hi"}])";
  EXPECT_EQ(field_of("{" + hi + "}"), "");
  EXPECT_EQ(field_of("{" + hi + R"(, "tools": {}})"), "tools");
  EXPECT_EQ(field_of("{" + hi + R"(, "add_generation_prompt": 1})"), "add_generation_prompt");
  EXPECT_EQ(field_of("{" + hi + R"(, "chat_template_kwargs": [1]})"), "chat_template_kwargs");
  EXPECT_EQ(field_of("{" + hi + R"(, "chat_template_kwargs": {"tools": []}})"),
            "chat_template_kwargs");
}

}  // namespace
}  // namespace sluice::launcher
