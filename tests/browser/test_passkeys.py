"""Journeys with passkeys in a real Chromium with a virtual authenticator."""

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.authenticator import Authenticator
from tests.browser.conftest import Visit
from tests.browser.people import DESKTOP, PHONE, Keyboard
from tests.browser.site import Site, open_page
from tests.browser.walk import (
    fill,
    log_in,
    log_out,
    make_logins_old,
    problems,
    register,
    wait_for_all,
)
from tests.conftest import make_folder
from tests.functional.commands import eventually
from tests.functional.software_key import encode
from tests.people import PASSWORD

MAX_GROWTH = 4_000
"""Bytes that passkeys add to the login page and its files, over the wire."""

KEEP_SIGNALS = """
window.signals = [];
for (const name of ["UnknownCredential", "AllAcceptedCredentials", "CurrentUserDetails"]) {
    const original = PublicKeyCredential[`signal${name}`];
    PublicKeyCredential[`signal${name}`] = (details) => {
        signals.push([name, details]);
        return original.call(PublicKeyCredential, details);
    };
}
"""
"""Script for a page: records the calls of the Signal API, which still reach the authenticator."""


@pytest.fixture(scope="module")
def site_without_passkeys(chromium: Any) -> Iterator[Site]:  # noqa: ARG001 (no site without Chromium)
    with make_folder() as folder:
        site = Site(folder, host="127.0.0.1")
        yield site
        site.stop()


def set_up(page: Any, email: str) -> tuple[Authenticator, list[str]]:
    """Register and add a passkey; return the authenticator and the recovery codes."""
    authenticator = Authenticator(page)
    register(page, email)
    page.wait_for_url("/account")
    add(page)
    wait_for_all(page, page.locator(".codes"))
    return authenticator, page.locator(".codes code").all_inner_texts()


def add(page: Any) -> None:
    page.goto("/account/passkeys/add")
    fill(page, "Add a passkey")


def log_in_with_code(page: Any, email: str, code: str) -> None:
    """Log in with the password and a recovery code, as on a device without the passkey."""
    log_in(page, email)
    page.wait_for_url("/login/second")
    fill(page, "Log in", code=code)
    page.wait_for_url("/account")


def remove_only_passkey(page: Any) -> None:
    page.goto("/account/passkeys")
    page.get_by_role("link", name="Remove: ").click()
    fill(page, "Remove")
    page.get_by_text("You have none.").wait_for()


def watch_posts(page: Any) -> list[str]:
    """Return a list that gets the URL of each form that the page sends from now on."""
    sent: list[str] = []

    def watch(request: Any) -> None:
        if request.method == "POST":
            sent.append(request.url)

    page.on("request", watch)
    return sent


def as_pages_write(chromium_id: str) -> str:
    """Return an id of the virtual authenticator in the encoding that pages use."""
    return encode(b64decode(chromium_id))


def names(authenticator: Authenticator) -> list[tuple[str, str]]:
    """Return the address and the name of the owner of each passkey."""
    return [(each["userName"], each["userDisplayName"]) for each in authenticator.passkeys]


def alerts(page: Any) -> str:
    """Wait for an error message, and return the page's messages."""
    page.get_by_role("alert").first.wait_for()
    return "\n".join(page.get_by_role("alert").all_inner_texts())


@pytest.mark.parametrize(("device", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")])
def test_a_passkey_is_added_used_renamed_and_removed_by_keyboard_alone(
    visit: Visit, site: Site, email: str, device: dict[str, Any], scheme: str
) -> None:
    page = visit(color_scheme=scheme, **device)
    keyboard, authenticator = Keyboard(page), Authenticator(page)
    said, heading = page.get_by_role("status"), page.get_by_role("heading", level=1)

    def leave() -> None:
        keyboard.press("button", "Log out")
        page.get_by_text("You are logged out.").wait_for()

    register(page, email)
    page.wait_for_url("/account")
    page.reload()
    keyboard.press("link", "Add a passkey")
    page.wait_for_url("/account/passkeys/add")
    keyboard.press("button", "Add a passkey")
    wait_for_all(page, page.get_by_role("heading", name="Keep your recovery codes"))
    assert page.locator(".codes code").count() == 10
    (passkey,) = authenticator.passkeys
    assert (passkey["rpId"], passkey["userName"]) == ("localhost", email)
    keyboard.press("link", "I have kept them")
    page.wait_for_url("/account")

    # The device answers the request that autofill has open from the start.
    leave()
    keyboard.press("link", "Log in")
    page.wait_for_url("/account")

    authenticator.set_owner(present=False)
    leave()
    keyboard.press("link", "Log in")
    page.wait_for_url("/login")
    keyboard.wait_for_focus("#email")
    authenticator.set_owner()
    keyboard.press("button", "Log in with a passkey")
    page.wait_for_url("/account")

    leave()
    authenticator.set_owner(present=False)
    keyboard.press("link", "Log in")
    page.wait_for_url("/login")
    keyboard.type(email, PASSWORD)
    page.wait_for_url("/login/second")
    authenticator.set_owner()
    keyboard.press("button", "Use a passkey")
    page.wait_for_url("/account")

    keyboard.press("link", "Manage passkeys")
    page.wait_for_url("/account/passkeys")
    keyboard.press("link", "Rename: Chrome on Linux")
    page.get_by_role("heading", name="Rename a passkey").wait_for()
    keyboard.type("My laptop")
    page.wait_for_url("/account/passkeys")
    assert said.inner_text() == "The passkey has a new name."
    assert "My laptop" in page.get_by_role("main").inner_text()

    make_logins_old(site)
    keyboard.press("link", "Remove: My laptop")
    page.get_by_text("or use a passkey").wait_for()
    keyboard.press("button", "Use a passkey")
    page.get_by_text("It is your only second step.").wait_for()
    keyboard.press("button", "Remove")
    page.wait_for_url("/account/passkeys")
    assert said.inner_text().startswith("The passkey is removed")
    leave()
    keyboard.press("link", "Log in")
    page.wait_for_url("/login")
    keyboard.type(email, PASSWORD)
    page.wait_for_url("/account")
    assert heading.inner_text() == "Your account"


def test_a_removed_passkey_is_refused_with_advice_and_the_device_forgets_it(
    visit: Visit, email: str
) -> None:
    page, other = visit(), visit()
    page.add_init_script(KEEP_SIGNALS)
    authenticator, codes = set_up(page, email)
    (passkey,) = authenticator.passkeys
    log_in_with_code(other, email, codes[0])
    remove_only_passkey(other)
    page.goto("/login")
    wait_for_all(page, problems(page))
    assert (
        problems(page)
        .get_by_role("listitem")
        .inner_text()
        .endswith(
            "This site does not know this passkey: it may have been removed. Go on without it, "
            "and delete it from your device."
        )
    )
    assert page.title() == "Error: Log in · Hello Login"
    ((name, details),) = page.evaluate("signals")
    assert name == "UnknownCredential"
    assert details["rpId"] == "localhost"
    assert details["credentialId"] == as_pages_write(passkey["credentialId"])
    focused = page.locator("#use-passkey:focus")
    focused.wait_for()
    assert focused.get_attribute("aria-describedby") == "form-error"
    assert "This site does not know" in page.locator("#form-error").inner_text()
    assert eventually(lambda: authenticator.passkeys == [])
    fill(page, "Log in", email=email, password=PASSWORD)
    page.wait_for_url("/account")


def test_the_same_device_cannot_be_added_twice(visit: Visit, email: str) -> None:
    page = visit()
    authenticator, _ = set_up(page, email)
    sent = watch_posts(page)
    add(page)
    assert alerts(page).startswith("This device or password manager has a passkey")
    assert sent == []
    assert len(authenticator.passkeys) == 1


def test_a_passkey_that_was_not_used_can_be_tried_again_on_each_page(
    visit: Visit, site: Site, email: str
) -> None:
    page = visit()
    authenticator, sent = Authenticator(page), watch_posts(page)

    def try_twice(button: str) -> str:
        """Return the message after the first try, which does not verify the owner."""
        sent.clear()
        authenticator.set_owner(verified=False)
        fill(page, button)
        message = alerts(page)
        # By then, the request of autofill has begun again, and the message is still there.
        page.evaluate("PublicKeyCredential.isConditionalMediationAvailable()")
        assert alerts(page) == message
        assert sent == []
        authenticator.set_owner()
        fill(page, button)
        page.wait_for_load_state()
        return message

    register(page, email)
    page.wait_for_url("/account")
    page.goto("/account/passkeys/add")
    assert try_twice("Add a passkey").startswith("No passkey was added")
    page.get_by_role("link", name="I have kept them").click()
    make_logins_old(site)
    page.goto("/account/passkeys/add")
    assert try_twice("Use a passkey").startswith("No passkey was used")
    page.wait_for_url("/account/passkeys/add")
    log_out(page)
    authenticator.set_owner(verified=False)
    page.goto("/login")
    assert try_twice("Log in with a passkey").startswith("No passkey was used")
    page.wait_for_url("/account")
    log_out(page)
    authenticator.set_owner(verified=False)
    log_in(page, email)
    page.wait_for_url("/login/second")
    assert try_twice("Use a passkey").startswith("No passkey was used")
    page.wait_for_url("/account")


def test_the_browser_is_told_which_passkeys_there_are_and_whose(visit: Visit, email: str) -> None:
    page, other = visit(), visit()
    page.add_init_script(KEEP_SIGNALS)
    authenticator, codes = set_up(page, email)
    (passkey,) = authenticator.passkeys
    log_in_with_code(other, email, codes[0])
    second = Authenticator(other)
    add(other)
    other.get_by_text("The passkey is added.").wait_for()
    (second_passkey,) = second.passkeys

    log_out(page)
    page.goto("/login")
    page.wait_for_url("/account")
    page.goto("/account/profile")
    fill(page, "Save", name="Ada King", email=f"new.{email}")
    wait_for_all(page, page.get_by_text("Your changes are saved."))
    signals = dict(page.evaluate("signals"))
    assert sorted(signals) == ["AllAcceptedCredentials", "CurrentUserDetails"]
    assert len(signals["AllAcceptedCredentials"]["allAcceptedCredentialIds"]) == 2
    assert signals["CurrentUserDetails"]["name"] == f"new.{email}"
    assert signals["CurrentUserDetails"]["displayName"] == "Ada King"
    assert eventually(lambda: names(authenticator) == [(f"new.{email}", "Ada King")])

    page.goto("/account/passkeys")
    page.get_by_role("link", name="Remove: ").first.click()
    fill(page, "Remove")
    wait_for_all(page, page.get_by_text("The passkey is removed"))
    details = dict(page.evaluate("signals"))["AllAcceptedCredentials"]
    (left,) = details["allAcceptedCredentialIds"]
    assert left == as_pages_write(second_passkey["credentialId"])
    assert details["rpId"] == "localhost"
    assert details["userId"] == as_pages_write(passkey["userHandle"])
    assert eventually(lambda: authenticator.passkeys == [])


def test_a_passkey_is_offered_after_a_login_by_password_until_declined(
    visit: Visit, email: str
) -> None:
    page = visit()
    offer = page.get_by_role("region", name="Log in without your password")
    register(page, email)
    page.wait_for_url("/account")

    def offered_after_login() -> bool:
        log_out(page)
        log_in(page, email)
        page.wait_for_url("/account")
        return bool(offer.is_visible())

    assert offered_after_login()
    page.reload()
    assert not offer.is_visible()
    assert offered_after_login()
    offer.get_by_role("link", name="Add a passkey").click()
    page.wait_for_url("/account/passkeys/add")
    assert offered_after_login()
    offer.get_by_role("button", name="Don't suggest it again").click()
    page.get_by_text("We will not suggest a passkey again.").wait_for()
    assert not offered_after_login()


def test_a_login_with_a_passkey_leads_to_the_requested_page(visit: Visit, email: str) -> None:
    page = visit()
    set_up(page, email)
    log_out(page)
    page.goto("/account/profile")
    page.get_by_label("Name").wait_for()
    assert page.url.endswith("/account/profile")


def test_the_password_works_on_a_page_that_is_shown_again_after_a_passkey(
    visit: Visit, email: str
) -> None:
    page = visit()
    authenticator, codes = set_up(page, email)
    log_out(page)
    authenticator.set_owner(present=False)

    def go_back() -> None:
        """Leave the page, and show it again with the earlier content of the form."""
        url = page.url
        page.goto("/register")
        page.go_back()
        page.wait_for_url(url)
        # So does a browser that has kept the whole page, which Chromium does not with passkeys.
        page.evaluate(
            """() => {
                document.querySelector("[name=credential]").value = "{}";
                dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
            }"""
        )

    page.goto("/login")
    go_back()
    fill(page, "Log in", email=email, password=PASSWORD)
    page.wait_for_url("/login/second")
    go_back()
    fill(page, "Log in", code=codes[0])
    page.wait_for_url("/account")


def test_without_javascript_no_page_shows_what_needs_a_passkey(
    visit: Visit, site: Site, email: str
) -> None:
    _, codes = set_up(visit(), email)
    page = visit(java_script_enabled=False)

    def text() -> str:
        return str(page.get_by_role("main").inner_text())

    def has_button() -> bool:
        return bool(page.get_by_role("button", name="passkey").count())

    page.goto("/login")
    assert "passkey" not in text().lower()
    log_in(page, email)
    page.wait_for_url("/login/second")
    assert "Your browser can't use passkeys here: type a code." in text()
    assert not has_button()
    fill(page, "Log in", code=codes[0])
    page.wait_for_url("/account")
    make_logins_old(site)
    page.goto("/account/passkeys/add")
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    assert "Your browser can't use passkeys here: type a code after your password." in text()
    assert not has_button()
    fill(page, "Confirm", current=PASSWORD, code=codes[1])
    page.get_by_text("Your browser can't use passkeys here").wait_for()
    assert page.get_by_role("main").get_by_role("button").count() == 0
    remove_only_passkey(page)
    log_out(page)
    log_in(page, email)
    page.wait_for_url("/account")
    assert page.get_by_role("region", name="Log in without your password").count() == 0


def test_the_login_page_without_javascript_is_the_one_of_a_site_without_passkeys(
    chromium: Any, site: Site, site_without_passkeys: Site
) -> None:
    views = []
    for each in (site, site_without_passkeys):
        with open_page(chromium, each, java_script_enabled=False) as page:
            page.goto("/login")
            fields = page.locator("main input:visible, main button:visible").evaluate_all(
                "found => found.map(({type, name, value, textContent}) => "
                "[type, name, value, textContent])"
            )
            picture = page.screenshot(full_page=True)
            views.append((page.locator("body").inner_text(), fields, picture))
    assert len(views[0][1]) == 4
    assert views[0] == views[1]


def test_passkeys_add_one_file_and_less_than_4_kb_to_the_login_page(
    chromium: Any, site: Site, site_without_passkeys: Site
) -> None:
    with_passkeys, without = (download_login(chromium, s) for s in (site, site_without_passkeys))
    (added,) = set(with_passkeys) - set(without)
    assert added.endswith("/passkeys.js")
    assert set(without) < set(with_passkeys)
    assert 0 < sum(with_passkeys.values()) - sum(without.values()) < MAX_GROWTH


def download_login(chromium: Any, site: Site) -> dict[str, int]:
    """Return the bytes over the wire of the login page and its files, by their paths."""
    with open_page(chromium, site) as page:
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        paths: dict[str, str] = {}
        sizes: dict[str, int] = {}

        def begin(event: Any) -> None:
            paths[event["requestId"]] = event["request"]["url"].removeprefix(site.url)

        def finish(event: Any) -> None:
            path, size = paths[event["requestId"]], event["encodedDataLength"]
            sizes[path] = max(size, sizes.get(path, 0))  # the icon comes from the cache again

        network.on("Network.requestWillBeSent", begin)
        network.on("Network.loadingFinished", finish)
        page.goto("/login", wait_until="networkidle")
        return sizes
