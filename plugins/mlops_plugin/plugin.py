"""What this project adds to Airflow itself; loaded by every Airflow process, so it stays light."""

from __future__ import annotations

import itertools
import sys
from functools import cached_property
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

# The file in the plugins folder, as Airflow calls its module; it is loaded before any entry point.
_IN_PLUGINS_FOLDER = "mlops_plugin_entry"
_asked = itertools.count()


def _icons(view: str) -> dict[str, str]:
    """For the navigation and the tabs, in light and dark; the views' own app serves them."""
    return {
        "icon": f"mlops/static/nav-{view}.svg",
        "icon_dark_mode": f"mlops/static/nav-{view}-dark.svg",
    }


class MlopsPlugin(AirflowPlugin):
    """Three views in the navigation, and a tab on each model's DAG and DAG run."""

    name = "mlops"
    external_views: ClassVar[list[Any]] = [  # type: ignore[misc]
        *(
            {
                "name": view.capitalize(),
                "href": f"mlops/{view}",
                "url_route": f"mlops-{view}",
                "destination": "nav",
                "nav_top_level": True,
                **_icons(view),
            }
            for view in ("showroom", "dispatches", "monitor")
        ),
        {
            "name": "Dispatches",
            "href": "mlops/dispatches?model={DAG_ID}&tab=dag",
            "url_route": "mlops-dispatches-of-model",
            "destination": "dag",
            **_icons("dispatches"),
        },
        {
            "name": "Dispatch",
            "href": "mlops/dispatches/of-run?dag_id={DAG_ID}&run_id={RUN_ID}",
            "url_route": "mlops-dispatch-of-run",
            "destination": "dag_run",
            **_icons("dispatches"),
        },
    ]

    # Only the API server asks for it, so tasks and the scheduler never import the web part.
    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        from mlops_plugin.config.loader import find_config_file
        from mlops_plugin.web import routers
        from mlops_plugin.web.app import create_app
        from mlops_plugin.web.shared_site import Site

        app = create_app(Site(find_config_file()), routers.all_views())
        return [{"name": "mlops", "app": app, "url_prefix": "/mlops"}]


def __getattr__(name: str) -> Any:
    """`InstalledPlugin`, for the entry point of an installed package: None if Airflow has the plugin already.

    Of a second one Airflow would say that it is registered, and tasks would leave out the plugins of all
    packages behind it. Raises `InstalledTwice` if the plugins folder holds another copy of this package:
    Airflow logs its text and shows it to administrators.
    """
    if name != "InstalledPlugin":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from mlops_plugin.orchestration.installed_copies import count_entry_points, require_one_copy

    if getattr(sys.modules.get(_IN_PLUGINS_FOLDER), "MlopsPlugin", None) is MlopsPlugin:
        require_one_copy()
        return None
    # A package that is installed in two places is asked for twice in a row, by everyone who loads plugins.
    return None if next(_asked) % count_entry_points() else MlopsPlugin
