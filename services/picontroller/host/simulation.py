"""Simulated Pis for ``pictl up --simulate N``: real agents with simulated hardware in this process, joined with tokens like any other."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc

from picontroller.agent import joining
from picontroller.agent.wiring import running_agent
from picontroller.core.clock import Clock
from picontroller.core.rpc import mesh as rpc
from picontroller.core.tls.identity import IdentityFolder
from picontroller.host.layout import Layout
from picontroller.v1 import identity_pb2, identity_pb2_grpc

log = logging.getLogger(__name__)
