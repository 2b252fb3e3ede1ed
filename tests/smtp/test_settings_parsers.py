"""Names with every awkward character, written into settings and read back by the client's own language."""

import json
import string
import subprocess
from pathlib import Path

import cluster_facts
import gobuild
import pytest
from mail_clients import PLACES, Place

from smtpprobe.settings import Working, snippet
from smtpprobe.vocabulary import Mode

SHAPES = ("{0}a", "a{0}", "a{0}b", "{0}{0}", "a{0}{0}{0}b{0}")
NAMES = [shape.format(mark) for mark in string.punctuation for shape in SHAPES]
NAMES += [
    "DOMAIN\\user",
    "first.last+tag@example.com",
    'O\'Neil "Bob" x',
    " first",
    "last ",
    "a\\n\\u0041\\x41",
    "$HOME",
]
NAMES += [
    "#{x}",
    "%{x}",
    "%s",
    "`id`",
    "$(id)",
    "{{x}}",
    "<?= x ?>",
    "a # b",
    "a ; b",
    "\\",
    "\\\\",
    "\\'",
    '\\"',
    "yes",
    "007",
]
WIDE = ["söner", "한국어", "日本", "😀", "a\N{RIGHT SINGLE QUOTATION MARK}b", "\N{LATIN SMALL LETTER LONG S}"]

PROPERTIES = """
import java.io.*; import java.util.*;
public class Read {
    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        for (String line : new BufferedReader(new InputStreamReader(System.in)).lines().toList()) {
            Properties read = new Properties();
            try (InputStream in = new FileInputStream(line)) { read.load(in); }
            out.print(read.getProperty("@KEY@") + "\\0");
        }
        out.flush();
    }
}
"""
MODULE = """
import { readFileSync } from "node:fs";
for (const file of readFileSync(0, "utf-8").trim().split("\\n"))
  process.stdout.write((await import(file)).transport.options.auth.user + "\\0");
"""
PHP = r"""<?php
require '/usr/share/php/libphp-phpmailer/autoload.php';
while (($file = fgets(STDIN)) !== false) { eval(file_get_contents(rtrim($file, "\n"))); echo $mail->Username, "\0"; }
"""
RUBY = r"""
Config = Struct.new(:action_mailer)
Mailer = Struct.new(:delivery_method, :default_options, :smtp_settings)
$stdin.each_line(chomp: true) do |file|
  config = Config.new(Mailer.new)
  eval(File.read(file, encoding: 'UTF-8'))
  print config.action_mailer.smtp_settings[:user_name], "\0"
end
"""
READERS = {  # client: (file, program, command)
    "jakarta-mail": ("Read.java", PROPERTIES.replace("@KEY@", "mail.smtp.user"), ["java", "-XX:TieredStopAtLevel=1"]),
    "spring-boot": (
        "Read.java",
        PROPERTIES.replace("@KEY@", "spring.mail.username"),
        ["java", "-XX:TieredStopAtLevel=1"],
    ),
    "nodemailer": ("read.mjs", MODULE, ["node"]),
    "phpmailer": ("read.php", PHP, ["php"]),
    "rails": ("read.rb", RUBY, ["ruby"]),
}


def written(client: str, folder: Path, names: list[str]) -> list[Path]:
    """Write the settings of each name to a file of its own."""
    files = []
    for number, name in enumerate(names):
        made = snippet(client, Working(host="smtp.example.com", port=587, mode=Mode.STARTTLS, username=name))
        files.append(folder / str(number) / Path(made.file).name)
        files[-1].parent.mkdir(parents=True)
        files[-1].write_text(made.text, "utf-8")
    return files


def place(name: str) -> Place:
    """Make a folder in the clients' root."""
    facts = cluster_facts.load()
    assert facts.clients
    folder = Path(facts.clients.share) / f"parse-{name}"
    folder.mkdir()
    return Place(facts.clients, folder)


@pytest.mark.parametrize("client", READERS)
def test_a_language_reads_the_name_that_was_meant(client: str) -> None:
    """Quotes, backslashes, variables of every kind, blanks at the ends, other scripts: each comes back as it was."""
    file, program, command = READERS[client]
    where, names = place(client), NAMES + WIDE
    files = written(client, where.folder, names)
    if client == "nodemailer":
        (where.folder / "node_modules").symlink_to("/opt/clients/node_modules")
    (where.folder / file).write_text(program, "utf-8")
    ran = where.run([*command, str(where.folder / file)], "".join(f"{path}\n" for path in files))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\0")[:-1] == names


def test_msmtp_reads_the_name_that_was_meant() -> None:
    """The same by msmtp's own account of its configuration."""
    where = place("msmtp")
    script = 'while read -r file; do msmtp --pretend --file="$file" to@example.net </dev/null; printf "\\0"; done'
    names = NAMES + WIDE
    ran = where.run(["sh", "-c", script], "".join(f"{path}\n" for path in written("msmtp", where.folder, names)))
    told = ran.stdout.split("\0")[:-1]
    lines = [[line for line in text.splitlines() if line.lstrip().startswith("user")] for text in told]
    assert [[line.partition(" = ")[2] for line in found] for found in lines] == [[name] for name in names], ran.stderr


def test_grafanas_library_reads_the_name_that_was_meant() -> None:
    """The same by the library with which Grafana reads its configuration; what it would expand is never written."""
    where = place("grafana")
    names = [name for name in NAMES + WIDE if not any(mark in name for mark in ("${", "$__", "%("))]
    files = "".join(f"{path}\n" for path in written("grafana", where.folder, names))
    ran = subprocess.run([where.clients.ini], input=files, capture_output=True, encoding="utf-8", check=True)
    assert ran.stdout.split("\0")[:-1] == names


def test_go_reads_the_name_that_was_meant() -> None:
    """A Go program prints each of the quoted names: what stands in mail.go is a string of Go."""
    where = place("go")
    quoted = []
    for path, name in zip(written("go", where.folder, NAMES + WIDE), NAMES + WIDE, strict=True):
        text = path.read_text("utf-8")
        quoted.append(text.partition('smtp.PlainAuth("", ')[2].partition(', os.Getenv("SMTP_PASSWORD")')[0])
        assert json.loads(quoted[-1]) == name
        path.unlink()
    lines = "\n".join(f'\tfmt.Print({one}, "\\x00")' for one in quoted)
    program = where.folder / "main.go"
    program.write_text(f'package main\n\nimport "fmt"\n\nfunc main() {{\n{lines}\n}}\n', "utf-8")
    toolchain = gobuild.toolchain()
    ran = subprocess.run(
        [str(toolchain), "run", str(program)],
        env=gobuild.environment(toolchain) | {"LANG": PLACES["LANG"]},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\0")[:-1] == NAMES + WIDE
