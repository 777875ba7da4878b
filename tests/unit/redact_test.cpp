// SPDX-License-Identifier: BSD-3-Clause
//
// What is printed: one line, without secrets, in whatever form they come back.

#include "base/redact.h"

#include <string>

#include "base/printable.h"
#include "catch.h"

using namespace upload;

namespace {

// Each test begins and ends without secrets.
struct Secrets {
  Secrets() { forget_secrets(); }
  ~Secrets() { forget_secrets(); }
};

}  // namespace

TEST_CASE("registered secrets are blanked out, the longer one first", "[redact]") {
  const Secrets none;
  register_secret("sekrit-1234");
  register_secret("sekrit-1234-and-more");
  register_secret("short");
  CHECK(redacted("a sekrit-1234 b sekrit-1234-and-more c") == "a ... b ... c");
  CHECK(redacted("sekrit-1234sekrit-1234") == "......");
  CHECK(redacted("short words stay") == "short words stay");
}

TEST_CASE("a secret is blanked out in each form that a server may echo it in", "[redact]") {
  const Secrets none;
  register_secret("p/\"a%\\&b+ '<\xc3\xa9\xf0\x9f\x94\x91>z");
  for (const char* const form : {
           "p/\"a%\\&b+ '<\xc3\xa9\xf0\x9f\x94\x91>z",
           "p%2F%22a%25%5C%26b%2B%20%27%3C%C3%A9%F0%9F%94%91%3Ez",
           "p%2f%22a%25%5c%26b%2b+%27%3c%c3%a9%f0%9f%94%91%3ez",
           "p\\/\\\"a%\\\\&b+ '<\\u00e9\\ud83d\\udd11>z",
           "\\u0070\\u002F\\u0022a%\\u005C\\u0026b+ '<\\u00E9\\uD83D\\uDD11>z",
           "p/&quot;a%\\&amp;b+ &#39;&lt;\xc3\xa9\xf0\x9f\x94\x91&gt;z",
           "p/&#34;a&#x25;\\&#38;b&#43; &apos;&lt;&#233;&#x1F511;&gt;z",
           "p/\\x22a%\\x5c&b+ \\'<\\xc3\\xa9\\xf0\\x9f\\x94\\x91>z",
           // One in another.
           "p%2F\\\"a%25%5C&amp;b+ '<\\u00e9%F0%9F%94%91>z",
       }) {
    CHECK(redacted(std::string("<") + form + ">") == "<...>");
    CHECK(redacted(form) == "...");
  }
  CHECK(redacted("p/\"a%\\&b") == "p/\"a%\\&b");
}

TEST_CASE("a secret that is percent-encoded is known decoded, and encoded again", "[redact]") {
  const Secrets none;
  register_secret("abc%2Fdef%3d");
  for (const char* const form :
       {"abc%2Fdef%3d", "abc/def=", "abc%2fdef%3D", "abc%252Fdef%253d", "abc\\/def\\u003d"})
    CHECK(redacted(form) == "...");
}

TEST_CASE("what only looks like an escape is text", "[redact]") {
  const Secrets none;
  register_secret("0123456789");
  for (const char* const text : {"%", "%3", "%zz", "\\", "\\u12", "\\ud83d", "\\x", "\\x3", "&",
                                 "&#", "&#;", "&#x;", "&#xg;", "&unknown;", "&#99999999;", "+"}) {
    CHECK(redacted(text) == text);
    CHECK(redacted(std::string(text) + "!0123456789") == std::string(text) + "!...");
  }
}

TEST_CASE("many ways to read a text come to an end", "[redact]") {
  const Secrets none;
  register_secret(std::string(30, '\\') + "x");
  register_secret(std::string(30, '%') + "252525252525x");
  std::string text(1000, '\\');
  CHECK(redacted(text) == text);
  text.clear();
  for (int i = 0; i < 1000; ++i) text += "%25";
  CHECK(redacted(text) == text);
}

TEST_CASE("nothing of a text is shown that a short secret occurs in", "[redact]") {
  const Secrets none;
  CHECK(excerpt("no ticket /ab%C3%A9") == "no ticket /ab%C3%A9");
  register_secret("/ab\xc3\xa9");
  CHECK(excerpt("no ticket") == "no ticket");
  CHECK(excerpt("no ticket /ab%C3%A9") == "...");
  CHECK(excerpt("no ticket \\/ab\\u00e9!") == "...");
  CHECK(excerpt("") == "");
  CHECK(has_secret("no ticket \\/ab\\u00e9!"));
  CHECK_FALSE(has_secret("no ticket"));
  // Ours.
  CHECK(redacted("the disk /ab\xc3\xa9") == "the disk /ab\xc3\xa9");
}

TEST_CASE("nothing is shown of what a server says where a password is short", "[redact]") {
  const Secrets none;
  register_credential("long enough");
  CHECK(excerpt("said long enough") == "said ...");
  register_credential("1234567");
  CHECK(excerpt("anything") == "...");
  CHECK(excerpt("") == "");
}

TEST_CASE("an excerpt ends before its 201st byte, after secrets have gone", "[redact]") {
  const Secrets none;
  register_secret("0123456789");
  CHECK(excerpt(std::string(195, 'x') + "0123456789") == std::string(195, 'x') + "...");
  CHECK(excerpt(std::string(300, 'x')) == std::string(200, 'x'));
  CHECK(excerpt(std::string(199, 'x') + "\xc3\xa9") == std::string(199, 'x') + "?");
}

TEST_CASE("base64 is as credentials are sent", "[redact]") {
  // RFC 4648, section 10; RFC 7617, section 2.
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(from_base64("Zm9vYmFy") == "foobar");
  CHECK(from_base64("Zm8=") == "fo");
  CHECK(from_base64("Zm8") == "fo");
  CHECK(from_base64("Z!") == "");
  CHECK(from_base64("") == "");
  CHECK(base64("Aladdin:open sesame") == "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

TEST_CASE("what is printed is one line that a terminal only shows", "[redact]") {
  CHECK(printable("plain, \xc3\xa9 and \xf0\x9f\x94\x91 \xe4\xb8\xad") ==
        "plain, \xc3\xa9 and \xf0\x9f\x94\x91 \xe4\xb8\xad");
  CHECK(printable("a\nerror: b\r\nc\td\n") == "a error: b  c d");
  CHECK(printable("\x1b[2J\x07\x7f") == "?[2J??");
  CHECK(printable(std::string("a\0b", 3)) == "a?b");
  // C1, as one character and as a byte.
  CHECK(printable("\xc2\x9b[2J \x9b[2J") == "?[2J ?[2J");
  for (const char* const hidden :
       {"\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x80\x8f", "\xd8\x9c", "\xe2\x80\xa8",
        "\xe2\x80\x8b", "\xef\xbb\xbf", "\xc2\xad", "\xf3\xa0\x81\x81"})
    CHECK(printable(std::string("a") + hidden + "b") == "a?b");
  // Not UTF-8: overlong, a surrogate, too large, cut short, alone.
  CHECK(printable("\xc0\x8a") == "??");
  CHECK(printable("\xe0\x80\x8a") == "???");
  CHECK(printable("\xed\xa0\x80") == "???");
  CHECK(printable("\xf4\x90\x80\x80") == "????");
  CHECK(printable("\xe2\x80") == "??");
  CHECK(printable("\x80") == "?");
  CHECK(printable("  a  ") == "  a");
  CHECK(printable(" ") == "");
  CHECK(printable("") == "");
}

TEST_CASE("of the secrets that pass the last are remembered", "[redact]") {
  const Secrets none;
  for (int i = 100; i < 400; ++i) register_passing_secret("a-token-" + std::to_string(i));
  CHECK(redacted("a-token-399 a-token-270") == "... ...");
  CHECK(redacted("a-token-100") == "a-token-100");
  CHECK(redacted(base64("a-token-399")) == "...");
  CHECK(has_secret("my a-token-399"));
  CHECK(excerpt("my a-token-399") == "my ...");
}
