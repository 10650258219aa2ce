"""The modules of a base that is on disk, as transformers will name them: the model is built without its weights."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from transformers import CONFIG_MAPPING
from transformers.utils import logging as transformers_logging

from hub.base.spec import BaseSpec
from hub.runtime.base import model_class
from hub.runtime.memory_spec import places_of

log = logging.getLogger("hub.runtime")


def with_loaded_names(spec: BaseSpec) -> BaseSpec:
    """Return `spec` with the names and kinds of modules that the loaded model will have.

    A spec whose architecture has a table has them already.  One that transformers doesn't know, or can't build without
    weights, is returned as it is: `lorahub check` then warns where it can't decide.
    """
    if not spec.names_from_files or spec.model_type not in CONFIG_MAPPING:
        return spec
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        config = CONFIG_MAPPING[spec.model_type].from_dict(dict(spec.config))
        with torch.device("meta"):
            model = model_class(config)._from_config(config)
    except (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError) as error:
        log.info("The modules of this %s can't be told without its weights: %s", spec.model_type, error)
        return spec
    finally:
        transformers_logging.set_verbosity(before)
    return replace(spec, loaded=places_of(model))
