// Shows the contract of the API that this page comes from. A script of its own, since the page's policy allows none inside it.
window.ui = SwaggerUIBundle({
  url: "/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  // Tokens survive a reload. They stay in this browser.
  persistAuthorization: true,
  // Nothing is sent to validator.swagger.io.
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
