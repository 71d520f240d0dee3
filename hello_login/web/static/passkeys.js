"use strict";
// Only passkeys need this file.

const api = window.PublicKeyCredential;
const field = document.querySelector("[data-options]");
const LIFETIME = 285e3; // ms: a little less than the server's
let pending = new AbortController();

const show = (selector, shown) => {
  for (const element of document.querySelectorAll(selector)) element.hidden = !shown;
};

// toJSON() fails for the answers of some password managers.
const asJSON = ({ id, response }) => {
  const sent = { transports: response.getTransports?.() };
  const parts = "clientDataJSON attestationObject authenticatorData signature userHandle";
  for (const part of parts.split(" ")) {
    if (response[part]) sent[part] = btoa(String.fromCharCode(...new Uint8Array(response[part])));
  }
  return JSON.stringify({ id, response: sent });
};

const ask = async (mediation) => {
  const { method, options } = field.dataset;
  const create = method === "create";
  if (!mediation) {
    // The server would refuse the answer.
    if (Date.now() - performance.timeOrigin > LIFETIME) return location.reload();
    show("[data-failure]", false);
  }
  pending.abort(); // The browser takes one request at a time.
  pending = new AbortController();
  const { signal } = pending;
  try {
    const parse = `parse${create ? "Creation" : "Request"}OptionsFromJSON`;
    const publicKey = api[parse](JSON.parse(options));
    const answer = await navigator.credentials[method]({ publicKey, mediation, signal });
    if (signal.aborted) return; // Some managers answer nevertheless.
    field.value = asJSON(answer);
    field.form.requestSubmit();
  } catch ({ name }) {
    if (mediation || name === "AbortError") return;
    show(`[data-failure=${create && name === "InvalidStateError" ? "exists" : "other"}]`, true);
    suggest();
  }
};

// Autofill, on the login page.
const suggest = async () => {
  const { signal } = pending;
  if (!document.querySelector("[autocomplete~=webauthn]")) return;
  const can = await api.isConditionalMediationAvailable?.();
  if (can && !signal.aborted) ask("conditional");
};

if (api?.parseRequestOptionsFromJSON) {
  show("[data-with-passkeys]", true);
  show("[data-without-passkeys]", false);
  const button = document.getElementById("use-passkey");
  button?.addEventListener("click", () => ask());
  if (button?.autofocus) button.focus();
  addEventListener("pageshow", () => {
    if (field) field.value = ""; // Some browsers keep it.
    suggest();
  });
  const signals = document.querySelector("[data-signals]")?.dataset.signals ?? "{}";
  for (const [method, details] of Object.entries(JSON.parse(signals))) {
    api[method]?.(details)?.catch(() => {});
  }
}
