"""The server's page in a real browser (Chromium without a screen), by its own buttons and keys. Skips where
chromedriver is not installed (scripts/setup page). SLUICE_SCREENSHOTS names a folder for pictures of it.
"""

import base64
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import unittest

if shutil.which("chromedriver") is None or shutil.which("chromium") is None:
    print("skipped: no chromium with its chromedriver is here")
    sys.exit(77)

from job_support import MAX_SECONDS
from serve_support import Server, ServeTest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for one
ENTER = "\ue007"


class Browser:
    """What of WebDriver's protocol the tests need."""

    def __init__(self, test):
        self.log = open(test.scratch / "chromedriver.log", "w+", encoding="utf-8")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=self.log, stderr=self.log,
                                       env=os.environ | {"HOME": str(test.scratch)})
        test.addCleanup(self.log.close)
        test.addCleanup(self.driver.wait)
        test.addCleanup(self.driver.terminate)
        port = None
        while port is None:
            assert self.driver.poll() is None, "chromedriver has ended"
            said = (test.scratch / "chromedriver.log").read_text(encoding="utf-8")
            port = re.search(r"successfully on port (\d+)", said)
            time.sleep(0.05)
        self.connection = http.client.HTTPConnection("127.0.0.1", int(port.group(1)),
                                                     timeout=MAX_SECONDS)
        test.addCleanup(self.connection.close)
        options = {"binary": shutil.which("chromium"),
                   "args": ["--headless=new", "--no-sandbox", "--disable-gpu",
                            "--disable-dev-shm-usage", "--window-size=1200,800"]}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options}}})
        self.session = f"/session/{made['sessionId']}"
        test.addCleanup(self.ask, "DELETE", self.session)

    def ask(self, method, path, body=None):
        text = json.dumps(body if body is not None else {}) if method == "POST" else None
        self.connection.request(method, path, text, {"Content-Type": "application/json"})
        value = json.loads(self.connection.getresponse().read())["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, url):
        self.ask("POST", f"{self.session}/url", {"url": url})

    def find(self, css):
        found = self.ask("POST", f"{self.session}/element", {"using": "css selector", "value": css})
        return f"{self.session}/element/{found[ELEMENT]}"

    def click(self, css):
        self.ask("POST", f"{self.find(css)}/click")

    def type(self, css, text):
        self.ask("POST", f"{self.find(css)}/value", {"text": text})

    def run(self, script):
        return self.ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def texts(self, css):
        return self.run(f"return [...document.querySelectorAll('{css}')].map((e) => e.textContent)")

    def wait_until(self, holds):
        deadline = time.monotonic() + MAX_SECONDS
        while not holds():
            assert time.monotonic() < deadline, self.texts("body")
            time.sleep(0.02)

    def picture(self, name):
        folder = os.environ.get("SLUICE_SCREENSHOTS")
        if folder:
            shot = self.ask("GET", f"{self.session}/screenshot")
            (pathlib.Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shot))

    def is_idle(self):
        return self.run("return document.getElementById('stop').disabled")


class PageTest(ServeTest):
    def open_page(self, *arguments, **options):
        server = Server(self, "--served-model-name", "demo", *arguments, model=self.chat_model(),
                        **options)
        browser = Browser(self)
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_until(lambda: browser.texts("#model") == ["demo"])
        return server, browser

    def test_a_chat_by_buttons_and_keys(self):
        server, browser = self.open_page(ranks=2)
        browser.wait_until(lambda: len(browser.texts(".stage")) == 2)
        self.assertIn("Rank 1: layers 2 to 3", browser.texts(".stage")[1])
        browser.type("#temperature", "0")
        browser.type("#max_tokens", "3")
        browser.type("#text", "What is 7 plus 8?")
        browser.click("#send")
        browser.wait_until(lambda: browser.is_idle() and len(browser.texts(".turn")) == 2)
        self.assertTrue(browser.texts(".turn.assistant .said")[0].startswith(" 15"))
        self.assertRegex(browser.texts(".turn.assistant .note")[0],
                         r"s to the first token, then [\d.]+ tokens/s")
        browser.type("#text", "What is 20 minus 6?" + ENTER)
        browser.wait_until(lambda: browser.is_idle() and len(browser.texts(".turn")) == 4)
        # Each turn is asked with those before it.
        messages = [{"role": ("user", "assistant")[i % 2], "content": said}
                    for i, said in enumerate(browser.texts(".turn .said")[:3])]
        whole = server.post("/v1/chat/completions",
                            {"messages": messages, "temperature": 0, "max_tokens": 3}).json()
        self.assertEqual(browser.texts(".turn .said")[3], whole["choices"][0]["message"]["content"])
        browser.wait_until(lambda: browser.texts("#made") == ["9"])
        self.assertEqual(browser.texts("#running"), ["0"])
        browser.picture("desktop")
        # Nothing is asked of anybody else, and a phone shows all of it.
        names = browser.run("return performance.getEntriesByType('resource').map((e) => e.name)")
        self.assertTrue(all(name.startswith(f"http://127.0.0.1:{server.port}/") for name in names))
        browser.ask("POST", f"{browser.session}/window/rect", {"width": 500, "height": 900})
        self.assertTrue(browser.run(
            "return document.documentElement.scrollWidth <= window.innerWidth"))
        browser.picture("phone")
        browser.click("#reset")
        self.assertEqual(browser.texts(".turn"), [])

    def test_the_stop_button_stops_the_answer(self):
        server, browser = self.open_page("--ignore-eos", *self.slow(), ranks=2)
        browser.type("#max_tokens", "200")
        browser.type("#text", "What is 7 plus 8?" + ENTER)
        browser.wait_until(lambda: any(browser.texts(".turn.assistant .said")))
        self.assertEqual(server.load(), (1, 0))
        def passes():
            return [int(re.match(r"pass (\d+), .+; [\d.]+ passes/s", step).group(1)) for step in browser.texts(".step")]

        browser.wait_until(lambda: min(passes()) > 0)
        seen = passes()
        browser.wait_until(lambda: all(now > then for now, then in zip(passes(), seen)))  # they move
        browser.picture("at-work")
        browser.click("#stop")
        browser.wait_until(browser.is_idle)
        server.wait_for_load(0, 0)
        self.assertEqual(server.metrics()["sluice_request_left_total"], 1)
        self.assertEqual(browser.texts(".turn.wrong"), [])

    def test_batches_are_begun_shown_and_cancelled(self):
        rows = self.write_rows("rows.jsonl", [
            {"custom_id": str(i), "method": "POST", "url": "/v1/completions",
             "body": {"prompt": f"Question: What is {i} plus 8?\nAnswer:", "max_tokens": 8}}
            for i in range(40)])
        server, browser = self.open_page("--files-dir", self.scratch / "kept", *self.slow())
        browser.wait_until(lambda: not browser.run("return document.getElementById('batches').hidden"))
        browser.click("#start")
        browser.wait_until(lambda: browser.texts("#batch_problem") == ["Choose a file first."])
        browser.type("#file", str(rows))
        browser.click("#start")
        progress = "return document.querySelector('.batch progress')?.value"
        browser.wait_until(lambda: 0 < (browser.run(progress) or 0) < 40)
        self.assertRegex(browser.texts(".batch")[0], r"in_progress: \d+ of 40 lines")
        browser.run("document.getElementById('batches').scrollIntoView()")
        browser.picture("batches")
        browser.ask("POST", f"{browser.session}/goog/cdp/execute", {
            "cmd": "Emulation.setEmulatedMedia",
            "params": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}})
        browser.picture("batches-dark")
        browser.click(".batch button")
        browser.wait_until(lambda: browser.texts(".batch")[0].startswith("cancelled"))
        answers = browser.run("return document.querySelector('.batch a').getAttribute('href')")
        lines = server.get(f"/{answers}").body.decode().splitlines()
        self.assertEqual(len(lines), browser.run(progress))

    def test_without_a_folder_no_batches_are_shown(self):
        _, browser = self.open_page()
        browser.wait_until(lambda: len(browser.texts(".stage")) == 1)
        self.assertTrue(browser.run("return document.getElementById('batches').hidden"))

    def test_errors_are_shown(self):
        _, browser = self.open_page()
        browser.type("#system", "word " * 300)
        browser.type("#text", "What?" + ENTER)
        browser.wait_until(lambda: browser.is_idle() and browser.texts(".turn.wrong .said") != [])
        self.assertIn("256 positions", browser.texts(".turn.wrong .said")[0])
        self.assertEqual(browser.texts(".turn.assistant"), [])


if __name__ == "__main__":
    unittest.main()
