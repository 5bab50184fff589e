"use strict";

Redoc.init(
  "openapi.json",
  {
    nativeScrollbars: true,
    requiredPropsFirst: true,
    theme: { typography: { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } } },
  },
  document.getElementById("page"),
);
