"""The status page in a real browser: what an operator sees of gateways, tables, hot and cold rows, with and without a token.

Invariant: every wait is for something that the page shows, with one limit; nothing is loaded but from the server.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from server import Server

PATIENCE_SECONDS = 60
PHONE = (390, 844)
TABLE = {"table": "todos", "columns": [{"name": "title", "type": "string"}]}
SECRET = "a secret of the browser's test, long enough"


def browser(profile: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))


def call(server: Server, path: str, body: dict, token: str | None) -> None:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(server.base + path, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=PATIENCE_SECONDS).read()


def fill(server: Server, token: str | None) -> None:
    """Three rows in the base, two that are hot."""
    def sql(statement: str) -> None:
        call(server, "/v1/admin/sql", {"sql": statement}, token)

    call(server, "/v1/admin/schema/public", TABLE, token)
    sql("insert into todos (title) values ('a'), ('b'), ('c')")
    sql("call system.flush('todos')")
    sql("call system.compact('todos')")
    sql("insert into todos (title) values ('d'), ('e')")


class Page:
    def __init__(self, driver: webdriver.Chrome, url: str):
        self.driver = driver
        driver.get(url)

    def wait_for(self, what: str, seen) -> None:
        message = f"{what}; the page shows:\n{self.text()}"
        WebDriverWait(self.driver, PATIENCE_SECONDS).until(lambda _: seen(), message)

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def state(self) -> str:
        return self.driver.find_element(By.ID, "state").get_attribute("data-state")

    def gateways(self) -> list[str]:
        found = self.driver.find_elements(By.CSS_SELECTOR, "section[data-gateway]")
        return [section.get_attribute("data-gateway") for section in found]

    def row(self, gateway: str, table: str) -> dict | None:
        """A table's row, by the heads of its columns."""
        heads = [head.text for head in self.driver.find_elements(By.CSS_SELECTOR, f"[data-gateway={gateway}] th")]
        for row in self.driver.find_elements(By.CSS_SELECTOR, f"[data-gateway={gateway}] tbody tr"):
            cells = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
            if cells[0] == table:
                return dict(zip(heads, cells))
        return None

    def check_rows(self) -> None:
        self.wait_for("the gateway is shown", lambda: self.state() == "ok" and "public" in self.gateways())
        row = self.row("public", "todos")
        assert row is not None, self.text()
        assert (row["hot rows"], row["hot deltas"], row["cold rows"]) == ("2", "2", "3"), row

    def check_manners(self) -> None:
        """Nothing from elsewhere, no error in the console, no sideways scrolling on a phone."""
        loaded = self.driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        origin = self.driver.execute_script("return location.origin")
        assert all(name.startswith(origin) for name in loaded), loaded
        self.driver.set_window_size(*PHONE)
        wide = self.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{wide} pixels too wide for a phone"


def severe(driver: webdriver.Chrome) -> list[str]:
    """Errors of the console; that the server refused a request is what the test asked for."""
    entries = (entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE")
    return [text for text in entries if " 401 " not in text and "favicon" not in text]


def open_to_this_machine(binary: str, driver: webdriver.Chrome) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "lakesync.toml").write_text('gateways = ["public", "shop"]\n')
        with Server(binary, folder) as server:
            fill(server, None)
            page = Page(driver, server.base + "/")
            page.check_rows()
            assert page.gateways() == ["public", "shop"], page.gateways()
            call(server, "/v1/admin/sql", {"sql": "insert into todos (title) values ('f')"}, None)
            page.wait_for("a new row is shown without a reload", lambda: page.row("public", "todos")["hot rows"] == "3")
            page.check_manners()


def behind_a_token(binary: str, driver: webdriver.Chrome) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "lakesync.toml").write_text(f'[auth]\nhs256_secrets = ["{SECRET}"]\n')
        mint = [binary, "token", "--dir", folder, "--sub", "root", "--role", "admin"]
        token = subprocess.run(mint, check=True, capture_output=True, text=True).stdout.strip()
        with Server(binary, folder) as server:
            fill(server, token)
            page = Page(driver, server.base + "/")
            page.wait_for("a token is asked for", lambda: driver.find_element(By.ID, "token").is_displayed())
            assert page.gateways() == [] and "todos" not in page.text(), page.text()
            for typed, state in [("wrong", "failed"), (token, "ok")]:
                driver.find_element(By.ID, "token").send_keys(typed)
                driver.find_element(By.CSS_SELECTOR, "#ask button").click()
                page.wait_for(f"the state is {state}", lambda: page.state() == state)
            page.check_rows()
            driver.refresh()
            page.check_rows()
            assert not driver.find_element(By.ID, "token").is_displayed(), "it was kept for the session"


def main() -> None:
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            for check in [open_to_this_machine, behind_a_token]:
                check(binary, driver)
                print(f"ok  {check.__name__}")
            errors = severe(driver)
            assert not errors, errors
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
