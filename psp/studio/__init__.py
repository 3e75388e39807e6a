"""The web studio: draw or paint in the browser, see faces. `app` has the routes, `server` runs them."""
