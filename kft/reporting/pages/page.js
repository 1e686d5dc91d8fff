(function () {
  var korean = document.getElementById("ko"), english = document.getElementById("en");
  function name() { document.documentElement.lang = english.checked ? "en" : "ko"; }
  if (!/^ko/.test(navigator.language || "")) { english.checked = true; }
  if (location.hash === "#ko") { korean.checked = true; }
  if (location.hash === "#en") { english.checked = true; }
  korean.addEventListener("change", name);
  english.addEventListener("change", name);
  name();
})();
