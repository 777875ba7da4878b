// SPDX-License-Identifier: BSD-3-Clause
//
// The list of secrets, and how one is found in a text that may have encoded it. The text
// is not decoded first: one encoding may be inside another, and which byte was encoded is
// the writer's choice. Instead a match goes through the text in all the ways it can be
// read: at each place as the byte that is there, or as what an escape stands for.
//
// The lists are heap objects that are never destroyed: texts may be redacted until the
// process ends.

#include "base/redact.h"

#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/percent.h"
#include "base/printable.h"
#include "base/snapshot.h"
#include "base/utf8.h"

namespace upload {

namespace {

constexpr size_t kExcerpt = 200;

// Of those that pass. A session has one or two at a time, and each of 64 connections may have a
// session of its own.
constexpr size_t kPassing = 160;

struct Secrets {
  std::vector<std::string> known;  // longer ones first
  std::vector<std::string> short_ones;
  bool short_credential = false;
};

// All forms of each, the newest secret last.
using Passing = std::vector<Secrets>;

Snapshot<Passing>& passing() {
  static auto* const list = new Snapshot<Passing>(std::make_shared<const Passing>());
  return *list;
}

Secrets& secrets() {
  static auto* const lists = new Secrets;
  return *lists;
}

// --- Escapes ----------------------------------------------------------------

// What stands at the beginning of a text, and how many bytes of the text that takes.
struct Reading {
  std::string bytes;
  size_t length = 0;  // 0: nothing of this kind
};

std::optional<unsigned> number_in(std::string_view text, int base) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

// %XX
Reading read_percent(std::string_view text) {
  if (text.size() < 3 || text[0] != '%') return {};
  const auto value = number_in(text.substr(1, 2), 16);
  return value ? Reading{{static_cast<char>(*value)}, 3} : Reading{};
}

// \uXXXX, the number only.
std::optional<unsigned> utf16_unit(std::string_view text) {
  if (text.size() < 6 || text[0] != '\\' || text[1] != 'u') return std::nullopt;
  return number_in(text.substr(2, 4), 16);
}

// \uXXXX, two of them for what is beyond U+FFFF; \xXX; \ before the character itself.
Reading read_backslash(std::string_view text) {
  if (text.size() < 2 || text[0] != '\\') return {};
  if (const auto first = utf16_unit(text)) {
    const auto second = utf16_unit(text.substr(6));
    if (*first >= 0xd800 && *first < 0xdc00 && second && *second >= 0xdc00 && *second < 0xe000)
      return {encode_utf8(0x10000 + ((*first - 0xd800) << 10) + (*second - 0xdc00)), 12};
    return {encode_utf8(*first), 6};
  }
  if (text[1] == 'x' && text.size() >= 4)
    if (const auto value = number_in(text.substr(2, 2), 16))
      return {{static_cast<char>(*value)}, 4};
  return {{text[1]}, 2};
}

// &#NN; &#xNN; and the names that are needed.
Reading read_reference(std::string_view text) {
  constexpr size_t kLongest = 10;
  if (text.empty() || text[0] != '&') return {};
  const size_t end = text.substr(0, kLongest).find(';');
  if (end == text.npos) return {};
  const std::string_view name = text.substr(1, end - 1);
  constexpr std::pair<std::string_view, char> kNames[] = {
      {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
  for (const auto& [known, character] : kNames)
    if (name == known) return {{character}, end + 1};
  if (name.size() < 2 || name[0] != '#') return {};
  const bool hexadecimal = name[1] == 'x' || name[1] == 'X';
  const auto value = number_in(name.substr(hexadecimal ? 2 : 1), hexadecimal ? 16 : 10);
  return value ? Reading{encode_utf8(*value), end + 1} : Reading{};
}

// A blank in a query.
Reading read_plus(std::string_view text) {
  return text.starts_with('+') ? Reading{" ", 1} : Reading{};
}

Reading read_plain(std::string_view text) { return {std::string(text.substr(0, 1)), 1}; }

// --- Finding ----------------------------------------------------------------

// How many bytes at the beginning of `text` are the secret; 0: it does not stand there.
// Keeps pairs of places, in the text and in the secret, that can be reached together; so
// each is looked at once, however many ways lead to it.
size_t match(std::string_view text, std::string_view secret) {
  if (text.empty() ||
      (text[0] != secret[0] && std::string_view("%\\&+").find(text[0]) == text.npos))
    return 0;
  std::set<std::pair<size_t, size_t>> reached = {{0, 0}};
  size_t longest = 0;
  while (!reached.empty()) {
    const auto [in_text, in_secret] = *reached.begin();
    reached.erase(reached.begin());
    if (in_secret == secret.size()) {
      longest = std::max(longest, in_text);
      continue;
    }
    const std::string_view rest = text.substr(in_text);
    if (rest.empty()) continue;
    for (const auto read :
         {read_plain, read_percent, read_backslash, read_reference, read_plus}) {
      const Reading next = read(rest);
      if (next.length != 0 && !next.bytes.empty() &&
          secret.substr(in_secret).starts_with(next.bytes))
        reached.insert({in_text + next.length, in_secret + next.bytes.size()});
    }
  }
  return longest;
}

bool occurs(std::string_view text, std::string_view secret) {
  for (size_t at = 0; at < text.size(); ++at)
    if (match(text.substr(at), secret) != 0) return true;
  return false;
}

void add(std::vector<std::string>& list, const std::string& secret) {
  if (std::find(list.begin(), list.end(), secret) != list.end()) return;
  // Longer ones first, so that one that contains another goes as a whole.
  const auto place = std::find_if(list.begin(), list.end(), [&](const std::string& other) {
    return other.size() < secret.size();
  });
  list.insert(place, secret);
}

// With all forms of it in which it may be met.
void add_forms(Secrets& secrets, std::string_view secret) {
  std::string query(secret);  // as a form's fields are decoded
  std::replace(query.begin(), query.end(), '+', ' ');
  for (const std::string& form :
       {std::string(secret), percent_decoded(secret), percent_decoded(query)}) {
    if (form.empty()) continue;
    add(form.size() < kShortestSecret ? secrets.short_ones : secrets.known, form);
    const std::string encoded = base64(form);
    for (const std::string& text : {encoded, encoded.substr(0, encoded.find('='))})
      if (text.size() >= kShortestSecret) add(secrets.known, text);
  }
}

void add_credential(Secrets& secrets, std::string_view secret) {
  if (!secret.empty() && secret.size() < kShortestSecret) secrets.short_credential = true;
  add_forms(secrets, secret);
}

void redact(std::string& text, const Secrets& secrets) {
  for (const std::string& secret : secrets.known) {
    for (size_t at = 0; at < text.size(); ++at) {
      const size_t length = match(std::string_view(text).substr(at), secret);
      if (length == 0) continue;
      text.replace(at, length, "...");
      at += 2;
    }
  }
}

bool any_occurs(const std::string& text, const std::vector<std::string>& list) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& secret) { return occurs(text, secret); });
}

}  // namespace

void register_secret(std::string_view secret) { add_forms(secrets(), secret); }

void register_parts(std::string_view secret) {
  while (!secret.empty()) {
    const size_t end = std::min(secret.find_first_of(" ,;=&\"/"), secret.size());
    if (end >= kShortestSecret) register_secret(secret.substr(0, end));
    secret.remove_prefix(std::min(end + 1, secret.size()));
  }
}

void register_credential(std::string_view secret) { add_credential(secrets(), secret); }

void register_passing_secret(std::string_view secret) {
  Secrets forms;
  add_credential(forms, secret);
  for (;;) {
    const Snapshot<Passing>::Pointer before = passing().load();
    Passing list = *before;
    list.push_back(forms);
    if (list.size() > kPassing) list.erase(list.begin());
    if (passing().replace(before, std::make_shared<const Passing>(std::move(list)))) return;
  }
}

std::string redacted(std::string text) {
  redact(text, secrets());
  for (const Secrets& secret : *passing().load()) redact(text, secret);
  return text;
}

bool has_secret(const std::string& text) {
  const auto is_in = [&](const Secrets& secrets) {
    return any_occurs(text, secrets.known) || any_occurs(text, secrets.short_ones);
  };
  const std::shared_ptr<const Passing> list = passing().load();
  return is_in(secrets()) || std::any_of(list->begin(), list->end(), is_in);
}

void forget_secrets() {
  secrets() = {};
  passing().store(std::make_shared<const Passing>());
}

std::string excerpt(const std::string& text) {
  if (text.empty()) return text;
  const auto forbids = [&](const Secrets& secrets) {
    return secrets.short_credential || any_occurs(text, secrets.short_ones);
  };
  const std::shared_ptr<const Passing> list = passing().load();
  if (forbids(secrets()) || std::any_of(list->begin(), list->end(), forbids)) return "...";
  // Before the cut, which might leave the half of a secret; and after it, since it might
  // leave the half of a character.
  return printable(redacted(text).substr(0, kExcerpt));
}

std::string from_base64(std::string_view text) {
  std::string padded(text);
  while (padded.size() % 4 != 0) padded += '=';
  std::string decoded(padded.size() / 4 * 3, '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()),
                                     reinterpret_cast<const unsigned char*>(padded.data()),
                                     static_cast<int>(padded.size()));
  if (length < 0) return "";
  // What the padding stands for are NULs at the end.
  decoded.resize(static_cast<size_t>(length));
  return decoded.substr(0, decoded.find_last_not_of('\0') + 1);
}

std::string base64(std::string_view text) {
  // Three bytes become four, and a NUL follows.
  std::string encoded((text.size() + 2) / 3 * 4 + 1, '\0');
  encoded.resize(static_cast<size_t>(EVP_EncodeBlock(
      reinterpret_cast<unsigned char*>(encoded.data()),
      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()))));
  return encoded;
}

}  // namespace upload
