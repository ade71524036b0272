"""Watches the coordinator's page in a browser while the fleet is killed and comes back.

    live.py PROGRAMS PICTURES CHROMIUM

PROGRAMS is the folder of coordinator, worker and status. Keys are used: the browser comes in by `status page`.
"""

import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

from playwright.sync_api import expect, sync_playwright

PROGRAMS, PICTURES = (pathlib.Path(argument) for argument in sys.argv[1:3])
CHROMIUM = sys.argv[3]
# Milliseconds that anything may take: the workers train on a busy machine.
PATIENCE = 180_000


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Fleet:
    """A coordinator and two workers with keys of their own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.address = f"127.0.0.1:{free_port()}"
        self.running: list[subprocess.Popen] = []
        subprocess.run([PROGRAMS / "coordinator", "keys", self.keys], check=True, stdout=subprocess.DEVNULL)

    def start(self, program: str, *arguments: str) -> subprocess.Popen:
        with open(PICTURES / f"{program}.log", "a") as log:
            process = subprocess.Popen(
                [PROGRAMS / program, "--tls", self.keys, *arguments], stdout=log, stderr=log
            )
        self.running.append(process)
        return process

    def coordinator(self) -> subprocess.Popen:
        store = str(self.folder / "store")
        return self.start("coordinator", "--workers", "2", "--listen", self.address, "--store", store, "--name", "live")

    def worker(self, name: str) -> subprocess.Popen:
        cache = str(self.folder / "cache")
        return self.start("worker", "--coordinator", self.address, "--name", name, "--threads", "1", "--cache-dir", cache)

    def link(self) -> str:
        command = [PROGRAMS / "status", "page", "--coordinator", self.address, "--tls", self.keys]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def watch(fleet: Fleet, browser) -> None:
    coordinator, anna = fleet.coordinator(), fleet.worker("anna")
    fleet.worker("berta")
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1300, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # The coordinator says where it listens before it serves.
    for attempt in range(100):
        try:
            link = fleet.link()
            break
        except subprocess.CalledProcessError:
            page.wait_for_timeout(200)
    page.goto(link)
    assert "token" not in page.url, page.url
    contact, events, fleet_part = page.locator("#contact"), page.locator("#events"), page.locator("#fleet")
    expect(contact).to_have_text("live", timeout=PATIENCE)
    expect(fleet_part).to_contain_text("berta", timeout=PATIENCE)
    expect(page.locator("#results svg").first).to_be_visible(timeout=PATIENCE)

    anna.send_signal(signal.SIGKILL)
    expect(events).to_contain_text("anna", timeout=PATIENCE)
    expect(events).to_contain_text("lost", timeout=PATIENCE)
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    expect(contact).to_contain_text("trying again", timeout=PATIENCE)
    page.screenshot(path=PICTURES / "no-contact.png", full_page=True)
    fleet.coordinator()
    fleet.worker("clara")
    expect(contact).to_have_text("live", timeout=PATIENCE)
    expect(events).to_contain_text("coordinator 2 began", timeout=PATIENCE)
    expect(fleet_part).to_contain_text("clara", timeout=PATIENCE)
    # The script does what it does under the page's own rules; a script of somebody else would not run.
    assert not complaints, complaints
    for scheme in ("light", "dark"):
        for width in (360, 1300):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=PICTURES / f"page-{scheme}-{width}.png", full_page=True)
    context.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        fleet = Fleet(pathlib.Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            watch(fleet, browser)
        finally:
            browser.close()
            fleet.end()
    print(f"the page came back; pictures in {PICTURES}")


if __name__ == "__main__":
    main()
